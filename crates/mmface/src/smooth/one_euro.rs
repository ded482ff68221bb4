//! The One-Euro filter: Casiez, Roussel, Vogel, "1 € Filter: A Simple Speed-based Low-pass Filter
//! for Noisy Input in Interactive Systems", CHI 2012.
//!
//! A first-order low-pass whose cutoff grows with speed: little jitter at rest, little lag in
//! motion. With the time step Te, fc = `min_cutoff` + `beta` · |speed|, τ = 1 / (2π fc), α = 1 / (1
//! + τ / Te), and value += α · (raw − value).

use std::f32::consts::TAU;

use nalgebra::{SVector, UnitQuaternion};

/// Parameters of one filter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tuning {
    /// Cutoff at rest in Hz; lower means less jitter.
    pub min_cutoff: f32,
    /// Increase of the cutoff in Hz per unit of speed; higher means less lag.
    pub beta: f32,
    /// Cutoff of the low-pass on the speed itself, in Hz.
    pub speed_cutoff: f32,
}

/// Computes α from the filtered speed. Coordinates that move together share one speed, so that no
/// direction is smoothed more than another.
#[derive(Debug, Clone, Copy)]
struct Gain<const N: usize> {
    speed: SVector<f32, N>,
}

impl<const N: usize> Gain<N> {
    fn new() -> Self {
        Self { speed: SVector::zeros() }
    }

    /// α for a new value that differs from the filtered value by `ahead`, `dt` > 0 seconds after
    /// it.
    ///
    /// As in the paper, speed is measured from the last *filtered* value: a value that lags behind
    /// appears to move faster, and so catches up.
    fn next(&mut self, ahead: SVector<f32, N>, dt: f32, tuning: &Tuning) -> f32 {
        self.speed += (ahead / dt - self.speed) * alpha(tuning.speed_cutoff, dt);
        alpha(tuning.min_cutoff + tuning.beta * self.speed.norm(), dt)
    }
}

/// The part of the way to a new value that a low-pass takes in `dt` seconds.
pub(super) fn alpha(cutoff: f32, dt: f32) -> f32 {
    1.0 / (1.0 + 1.0 / (TAU * cutoff * dt))
}

/// Filters N coordinates that move together.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneEuro<const N: usize> {
    value: SVector<f32, N>,
    gain: Gain<N>,
}

impl<const N: usize> OneEuro<N> {
    pub(super) fn new(value: [f32; N]) -> Self {
        Self { value: value.into(), gain: Gain::new() }
    }

    /// Filters the next value. Speeds are measured in multiples of `unit`, which is given in the
    /// coordinates' own unit.
    pub(super) fn next(&mut self, raw: [f32; N], unit: f32, dt: f32, tuning: &Tuning) {
        let ahead = SVector::from(raw) - self.value;
        self.value += ahead * self.gain.next(ahead / unit, dt, tuning);
    }

    pub(super) fn value(&self) -> [f32; N] {
        self.value.into()
    }
}

/// Filters a rotation; speed in radians per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneEuroRotation {
    value: UnitQuaternion<f32>,
    gain: Gain<3>,
}

impl OneEuroRotation {
    pub(super) fn new(value: UnitQuaternion<f32>) -> Self {
        Self { value, gain: Gain::new() }
    }

    pub(super) fn next(&mut self, raw: UnitQuaternion<f32>, dt: f32, tuning: &Tuning) {
        // The shorter rotation from one to the other as axis times angle, whatever the signs of the
        // quaternions; a part of it is the same as slerp.
        let ahead = (self.value.inverse() * raw).scaled_axis();
        let part = ahead * self.gain.next(ahead, dt, tuning);
        let turned = self.value * UnitQuaternion::from_scaled_axis(part);
        // Keeps rounding errors from accumulating.
        self.value = UnitQuaternion::new_normalize(turned.into_inner());
    }

    pub(super) fn value(&self) -> UnitQuaternion<f32> {
        self.value
    }
}
