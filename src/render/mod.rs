//! Graphs and figures as text: pure functions from a small description to a `String`.

#[cfg(feature = "cli")]
pub mod dot;
#[cfg(feature = "cli")]
pub mod mermaid;
#[cfg(feature = "cli")]
pub mod picture;
#[cfg(feature = "cli")]
pub mod text;
pub mod words;

#[cfg(feature = "cli")]
pub use picture::Picture;
