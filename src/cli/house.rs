//! What every command is given: the application, the store that was named, the output.

use std::path::PathBuf;

use super::out::Out;
use super::table::Color;
use crate::app::App;
use crate::client::Client;
use crate::error::{Error, Result};

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The store, for example sqlite:gusher.db
    #[arg(long, global = true, value_name = "URL", env = "GUSHER_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// The broker of every queue, for example amqp://127.0.0.1:5672 [default: what the program says, else the store's own lines]
    #[arg(long, global = true, value_name = "URL", env = "GUSHER_BROKER", hide_env_values = true)]
    pub broker: Option<String>,
    /// Print JSON: one document, or one a line while waiting
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

/// The application with its command line.
pub struct House<S> {
    pub app: App<S>,
    pub global: Global,
    pub out: Out,
}

impl<S: Send + Sync + 'static> House<S> {
    /// The store's URL.
    pub fn url(&self) -> &str {
        self.global.store.as_deref().unwrap_or(&self.app.default_store)
    }

    /// A client on a store that is there.
    pub async fn client(&self) -> Result<Client> {
        if let Some(path) = self.missing_file()? {
            let program = &self.out.program;
            return Err(Error::usage(format!(
                "there is no store at {} ({} does not exist); `{program} start` or `{program} worker` makes one, --store names another",
                self.url(),
                path.display()
            )));
        }
        self.client_or_new().await
    }

    /// A client on the store, which is made if it is not there.
    pub async fn client_or_new(&self) -> Result<Client> {
        self.app.client(self.url()).await
    }

    /// The store's file, if it has one and that is not there.
    pub fn missing_file(&self) -> Result<Option<PathBuf>> {
        #[cfg(feature = "sqlite")]
        if let Some(rest) = self.url().strip_prefix("sqlite:") {
            let path = crate::store::sqlite::Options::parse(rest)?.path;
            return Ok((!path.exists()).then_some(path));
        }
        Ok(None)
    }
}
