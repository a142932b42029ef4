//! A worker of a test's own application, whose jobs share a stage.

use gusher::prelude::*;
use gusher::{Handle, StepState};

use super::act::{Shared, Stage};
use super::{House, WorkerGuard};

/// An application at work on a store of its own.
pub struct Play {
    pub house: House,
    pub app: App<Shared>,
    pub stage: Shared,
    pub worker: WorkerGuard,
}

/// An application that registers nothing yet.
pub fn app(stage: &Shared) -> App<Shared> {
    let stage = stage.clone();
    App::new(move || std::future::ready(Ok::<_, std::io::Error>(stage.clone())))
}

impl Play {
    /// Begins with what `register` registers.
    pub async fn of(register: impl FnOnce(App<Shared>) -> App<Shared>) -> Self {
        let stage = Stage::new();
        let (house, app) = (House::new(), register(app(&stage)));
        let worker = house.worker(&app).await;
        Self { house, app, stage, worker }
    }

    pub async fn start(&self, workflow: impl Workflow) -> Handle {
        self.house.client(&self.app).start(workflow).await.unwrap()
    }

    /// Ends the worker; the store must be as it should be.
    pub async fn end(self) {
        self.worker.stop().await;
        self.house.check().await;
    }
}

/// How the steps of a workflow stand.
pub async fn states(run: &Handle) -> Vec<StepState> {
    run.status().await.unwrap().steps.into_iter().map(|step| step.state).collect()
}
