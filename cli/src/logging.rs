//! The log on stderr: gatefold's messages from `warn` on, those of wgpu and naga from `error` on.

use env_logger::{Builder, Env};

/// Starts the log; `RUST_LOG` replaces what `-v` says.
pub fn start(verbose: u8) {
    let filter = match verbose {
        0 => "warn,wgpu_hal=off,wgpu_core=error,wgpu=error,naga=error",
        1 => "warn,gatefold=info,wgpu_hal=off,naga=error",
        2 => "info,gatefold=debug,wgpu_hal=warn,naga=warn",
        _ => "debug",
    };
    Builder::from_env(Env::default().default_filter_or(filter))
        .format(|out, record| {
            use std::io::Write as _;
            writeln!(
                out,
                "gatefold: {}: {}: {}",
                record.level().as_str().to_lowercase(),
                record.target(),
                crate::terminal::one_line(&record.args().to_string())
            )
        })
        .init();
}
