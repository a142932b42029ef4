//! The servers that tests start: real ones, from Debian's packages.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What tests run, and the package that has it.
const SERVERS: [(&str, &str); 1] = [("redis-server", "redis-server")];

/// Installs what is missing. Nothing of it is started here: each test starts its own on a free port.
pub fn install() -> Result<()> {
    let missing: Vec<&str> =
        SERVERS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(", "));
    for arguments in
        [vec!["update", "-qq"], [vec!["install", "-y", "-qq", "--no-install-recommends"], missing.clone()].concat()]
    {
        let mut apt = Command::new("apt-get");
        // A package that starts its server by itself would take the usual port and keep running.
        apt.args(&arguments).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").stdout(Stdio::null());
        let status = apt.status().context("starting apt-get")?;
        ensure!(
            status.success(),
            "apt-get {} ended with {status}; the tests need {} on the PATH, installed in whatever way",
            arguments.join(" "),
            missing.join(", ")
        );
    }
    Ok(())
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
