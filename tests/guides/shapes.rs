//! docs/shapes.md

use super::conditions::{Approval, IsMonday};
use super::waiting::days;
use super::*;

macro_rules! jobs {
    ($($job:ident)+) => {$(
        #[derive(Serialize, Deserialize)]
        struct $job;
    )+ does_nothing!((): $($job)+);};
}
jobs!(Fetch Unpack ImportCsv ImportXml Publish Report Alarm CleanUp);

#[derive(Serialize, Deserialize)]
struct Resize { picture: String }
#[derive(Serialize, Deserialize)]
struct ImportRow { line: u64 }
#[derive(Serialize, Deserialize)]
struct Enrich { line: u64 }
does_nothing!((): Resize ImportRow Enrich);

impl Follows<ImportRow> for Enrich {
    fn follow(before: ImportRow, _: ()) -> Self {
        Enrich { line: before.line }
    }
}

/// A file of so many rows, unless it cannot be read.
#[derive(Clone, Serialize, Deserialize)]
struct ReadFile { rows: u64 }

impl Source for ReadFile {
    const NAME: &str = "ReadFile";
    type Emits = ImportRow;
    type State = ();
    async fn produce(self, _: &Context, rows: &mut Emitter<ImportRow>) -> JobResult<()> {
        for line in 0..self.rows {
            rows.emit(ImportRow { line }).await?;
        }
        Ok(())
    }
}

/// Workflows of a field for what the lines of the guide take from elsewhere.
macro_rules! shapes {
    ($($shape:ident { $($field:ident: $type:ty)? } { $($configure:tt)* })+) => {$(
        #[derive(Clone, Serialize, Deserialize)]
        struct $shape { $($field: $type)? }

        impl Workflow for $shape {
            const NAME: &str = stringify!($shape);
            $($configure)*
        }
    )+};
}

shapes! {
    Row {} {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let fetched = flow.run(Fetch);
        let unpacked = flow.run(Unpack).after(fetched);
        flow.run(Publish).after(unpacked);
        Ok(())
    }
    }

    SideBySide {} {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let csv = flow.run(ImportCsv);
        let xml = flow.run(ImportXml);
        flow.run(Report).after((csv, xml));
        Ok(())
    }
    }

    Each { pictures: Vec<String> } {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let resized = flow.run_each(self.pictures.clone().into_iter().map(|picture| Resize { picture }));
        flow.run(Publish).after(resized);
        Ok(())
    }
    }

    Rows {} {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(ReadFile { rows: 1_000_000 });
        flow.run(Report).after(rows);
        Ok(())
    }
    }

    ManyFiles { files: Vec<ReadFile> } {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand_each(self.files.clone()).source(|files| files.tolerate(3));
        flow.run(Report).after(rows);
        Ok(())
    }
    }

    AsItIsRead {} {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(ReadFile { rows: 1_000_000 }).eager();
        flow.run(Report).after(rows);
        Ok(())
    }
    }

    EachOnItsOwn {} {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(ReadFile { rows: 1_000 });
        let enriched = rows.each_then::<Enrich>();
        flow.run(Report).after(enriched);
        Ok(())
    }
    }

    WhenItFails {} {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(ReadFile { rows: 1_000 }).tolerate(10);
        flow.run(Publish).after(rows);
        flow.run(Alarm).after_failure(rows);
        flow.run(CleanUp).always(rows);
        Ok(())
    }
    }

    Either {} {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let monday = flow.check(IsMonday);
        let weekly = flow.run(Report).when(monday);
        let daily = flow.run(ImportCsv).unless(monday);
        flow.run(Publish).after((weekly, daily));
        Ok(())
    }
    }

    Approved {} {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(ReadFile { rows: 1_000 });
        let manager = flow.wait_for::<Approval>("manager").after(rows);
        flow.run(Publish).after(manager);
        Ok(())
    }
    }

    Later { opens: i64 } {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let opened = flow.until(self.opens);
        let published = flow.run(Publish).after(opened);
        let a_day = flow.sleep(days(1)).after(published);
        flow.run(CleanUp).after(a_day);
        Ok(())
    }
    }

    Whole { files: u64 } {
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let imported = flow.run_each_workflow((0..self.files).map(|_| Rows {}));
        flow.run(Publish).after(imported);
        Ok(())
    }
    }
}

fn app() -> App {
    let app = App::stateless().workflow::<Row>().workflow::<SideBySide>().workflow::<Each>().workflow::<Rows>();
    let app = app.workflow::<ManyFiles>().workflow::<WhenItFails>().workflow::<Either>().workflow::<Approved>();
    let app = app.workflow::<Whole>().source::<ReadFile>().condition::<IsMonday>().signal::<Approval>();
    let app = app.job::<Fetch>().job::<Unpack>().job::<ImportCsv>().job::<ImportXml>().job::<Publish>();
    let app = app.job::<Report>().job::<Alarm>().job::<CleanUp>().job::<Resize>().job::<ImportRow>();
    app.workflow::<AsItIsRead>().workflow::<EachOnItsOwn>().workflow::<Later>().job::<Enrich>().follows::<Enrich, ImportRow>()
}

/// It is drawn in the guide, and runs to its end.
fn stands_in_the_guide(shape: impl Workflow) {
    is_drawn_in("docs/shapes.md", &shape);
    let run = Simulation::new(app()).run(shape).unwrap();
    assert_eq!(run.state(), WorkflowState::Succeeded);
}

#[test]
fn each_shape_is_drawn_and_runs() {
    let files = vec![ReadFile { rows: 2 }, ReadFile { rows: 3 }];
    stands_in_the_guide(Row {});
    stands_in_the_guide(SideBySide {});
    stands_in_the_guide(Each { pictures: vec!["a.png".into(), "b.png".into()] });
    stands_in_the_guide(ManyFiles { files });
    stands_in_the_guide(EachOnItsOwn {});
    stands_in_the_guide(WhenItFails {});
    stands_in_the_guide(Either {});
    stands_in_the_guide(Later { opens: 1_769_904_000_000 });
    is_drawn_in("docs/shapes.md", &Rows {});
    is_drawn_in("docs/shapes.md", &AsItIsRead {});
    is_drawn_in("docs/shapes.md", &Approved {});
    is_drawn_in("docs/shapes.md", &Whole { files: 3 });
}

async fn batch(client: &Client) -> gusher::Result<gusher::OpenBatch> {
let night = client.batch("nightly").on_success(Report).on_death(Alarm).open().await?;
night.add(ImportCsv).await?;
night.add_each((0..100).map(|line| ImportRow { line })).await?;
let north = night.batch("north").open().await?;
north.add(ImportXml).await?;
north.close().await?;
night.close().await?;
    Ok(night)
}

#[test]
fn a_batch_is_drawn_with_what_has_become_of_it() {
    let played = Simulation::new(app()).play(async |client| {
        let night = batch(&client).await?;
        night.wait().await?;
        let picture = gusher::testing::picture_of_run(&night).await?;
        assert!(read("docs/shapes.md").contains(&format!("```text\n{picture}```\n")), "docs/shapes.md lacks this picture:\n{picture}");
        Ok(())
    });
    assert_eq!(played.unwrap().ran::<Report>(), 1);
}
