//! Timelines as SVG.

use std::fmt::Write as _;

use super::sim::{Kind, Lane, Span};

const LEFT: f64 = 110.0;
const WIDTH: f64 = 960.0;
const ROW: f64 = 26.0;

/// One picture with a timeline under each title, all to the same scale.
pub fn timelines(parts: &[(&str, &[Span])]) -> String {
    let end = parts.iter().map(|(_, spans)| super::ends(spans)).fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - 20.0) / end;
    let mut body = String::new();
    let mut y = 24.0;
    for (title, spans) in parts {
        let last = super::ends(spans);
        let frames = spans.iter().filter(|s| s.kind == Kind::Down).count();
        let each = last / frames.max(1) as f64;
        let _ = writeln!(
            body,
            r#"<text x="10" y="{y}" font-weight="bold">{title}: {each:.0} µs a frame</text>"#
        );
        y += 12.0;
        let mut lanes: Vec<Lane> = spans.iter().map(|s| s.lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        for lane in lanes {
            let name = match lane {
                Lane::Cpu => "CPU".into(),
                Lane::Copy => "copy stream".into(),
                Lane::Compute(slot) => format!("slot {}", ["A", "B", "C"][slot.min(2)]),
            };
            let _ = writeln!(body, r#"<text x="10" y="{:.1}">{name}</text>"#, y + 17.0);
            for span in spans.iter().filter(|s| s.lane == lane) {
                bar(&mut body, span, y, scale);
            }
            y += ROW;
        }
        y += 34.0;
    }
    let height = y - 10.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
{body}</svg>
"##
    )
}

fn bar(body: &mut String, span: &Span, y: f64, scale: f64) {
    let (name, colour) = match span.kind {
        Kind::Fill => ("write", "#f4b183"),
        Kind::Copy => ("copy", "#9dc3e6"),
        Kind::Crop => ("crop", "#c5b3e6"),
        Kind::Vmn => ("VMN", "#a9d18e"),
        Kind::Pmn => ("PMN", "#70ad47"),
        Kind::Down => ("down", "#9dc3e6"),
        Kind::Read => ("read", "#f4b183"),
        Kind::Think => ("follow", "#ffe699"),
    };
    let (x, width) = (LEFT + span.from * scale, (span.to - span.from) * scale);
    let _ = writeln!(
        body,
        r##"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{:.1}" fill="{colour}" stroke="#555" stroke-width="0.5"><title>{name}, frame {}</title></rect>"##,
        ROW - 4.0,
        span.frame
    );
    // A name where there is room for it.
    if width > 30.0 {
        let _ = writeln!(
            body,
            r#"<text x="{:.1}" y="{:.1}" font-size="10" text-anchor="middle">{name} {}</text>"#,
            x + width / 2.0,
            y + 15.0,
            span.frame
        );
    }
}
