//! A worker of the program before the deploy.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    deploy::work(deploy_before::app()).await
}
