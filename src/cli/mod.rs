//! The command line that `App::main` gives to a user's own binary.
use std::process::ExitCode;
use crate::app::App;
pub fn main<S: Send + Sync + 'static>(_app: App<S>) -> ExitCode { ExitCode::from(2) }
