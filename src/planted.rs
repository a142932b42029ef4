//! Bugs that stay in the code, so that it can be shown at any time that a test catches each of them: `cargo xtask planted`.
//!
//! `planted!("name")` is false, at no cost, unless the crate is compiled with `--cfg planted` and `GUSHER_PLANTED` names it.

#[cfg(planted)]
macro_rules! planted {
    ($name:literal) => {
        $crate::planted::is_chosen($name)
    };
}

#[cfg(not(planted))]
macro_rules! planted {
    ($name:literal) => {
        false
    };
}

pub(crate) use planted;

#[cfg(planted)]
pub fn is_chosen(name: &str) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("GUSHER_PLANTED").ok());
    CHOSEN.as_deref() == Some(name)
}
