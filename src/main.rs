//! Arguments → configuration → run → exit code; nothing else.

fn main() {}
