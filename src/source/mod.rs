//! Video in.
