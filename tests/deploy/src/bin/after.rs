//! A worker of the program after the deploy.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    deploy::work(deploy_after::app()).await
}
