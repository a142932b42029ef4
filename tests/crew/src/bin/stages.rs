//! A program whose rows go through three stages, each on its own: `stages start Stages --args null --run`.

use std::process::ExitCode;

use gusher::prelude::*;

#[derive(Serialize, Deserialize)]
struct ImportRow {
    row: u64,
}
impl Job for ImportRow {
    const NAME: &str = "ImportRow";
    type Output = u64;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<u64> {
        Ok(self.row)
    }
}

/// Of the second row nobody knows the country.
#[derive(Serialize, Deserialize)]
struct Enrich {
    row: u64,
}
impl Follows<ImportRow> for Enrich {
    fn follow(_: ImportRow, row: u64) -> Self {
        Enrich { row }
    }
}
impl Job for Enrich {
    const NAME: &str = "Enrich";
    type Output = u64;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<u64> {
        if self.row == 1 { Err(JobError::fatal("its country is unknown")) } else { Ok(self.row) }
    }
}

#[derive(Serialize, Deserialize)]
struct Publish {
    row: u64,
}
impl Follows<Enrich> for Publish {
    fn follow(_: Enrich, row: u64) -> Self {
        Publish { row }
    }
}
impl Job for Publish {
    const NAME: &str = "Publish";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Stages;
impl Workflow for Stages {
    const NAME: &str = "Stages";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run_each((0..3).map(|row| ImportRow { row }));
        rows.each_then::<Enrich>().each_then::<Publish>();
        Ok(())
    }
}

fn main() -> ExitCode {
    let app = App::stateless().workflow::<Stages>().job::<ImportRow>().job::<Enrich>().job::<Publish>();
    app.follows::<Enrich, ImportRow>().follows::<Publish, Enrich>().main()
}
