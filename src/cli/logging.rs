//! What the engine and the jobs log goes to standard error, above any bars.

use std::io::{self, Write};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Result};

/// Logs what the engine and the jobs tell to standard error, above the bars of any [`Progress`](crate::Progress): what the filter in
/// `GUSHER_LOG` or `RUST_LOG` lets through, or what is of `level` (`warn`, `info`, …). A program that has its own logging keeps it.
///
/// Fails if the filter in the environment is none.
pub fn log_to_stderr(level: &str) -> Result<()> {
    let named = ["GUSHER_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    let (name, filter) = named.unwrap_or(("the level", level.to_owned()));
    let filter: Targets = filter.parse().map_err(|error| {
        Error::usage(format!("{name}={filter} is no filter for logs; one is `warn,gusher=info`")).because(error)
    })?;
    let lines = tracing_subscriber::fmt::layer().with_ansi(super::table::colours_on_stderr()).with_writer(|| AboveBars);
    let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
    Ok(())
}

/// Standard error; bars that are on it move down.
struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        super::progress::above_bars(|| io::stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
