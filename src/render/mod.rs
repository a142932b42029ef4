//! Graphs and figures as text: pure functions from a small description to a `String`.

#[cfg(feature = "cli")]
pub mod dot;
#[cfg(feature = "cli")]
pub mod mermaid;
// Tests draw graphs that do not run.
#[cfg(any(feature = "cli", feature = "testing"))]
#[cfg_attr(not(feature = "cli"), allow(dead_code))]
pub mod picture;
#[cfg(any(feature = "cli", feature = "testing"))]
pub mod text;
pub mod words;

#[cfg(any(feature = "cli", feature = "testing"))]
pub use picture::Picture;
