//! The workflow: a CSV and an XML file go in, one job runs for each row, one report comes out, and is published when somebody
//! has approved it.

use std::path::PathBuf;

use gusher::prelude::*;

use crate::jobs::{Approval, DownloadCsv, GenReport, ImportXml, Publish, shipped};
use crate::location::Location;

/// Its arguments; each has a default, so `import start ImportWorkflow` imports the shipped files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportWorkflow {
    /// Where the airports are.
    pub csv: Location,
    /// Where the territories are.
    pub xml: Location,
    /// Where the report goes.
    pub report: PathBuf,
    /// Where fetched files are kept for all workers: a folder or `s3://bucket/prefix`.
    pub shared: Option<Location>,
    /// Only the first so many rows.
    pub rows: Option<u64>,
    /// Reads the file so many times over, with distinct keys.
    pub repeat: u32,
    /// How many bad rows the report may lack.
    pub tolerate: Tolerate,
    /// Where the report is published, once somebody has looked at it and given the signal `approval`.
    pub publish: Option<PathBuf>,
}

impl Default for ImportWorkflow {
    fn default() -> Self {
        let here = std::env::current_dir().unwrap_or_default();
        Self {
            csv: Location::Path(shipped("airports.csv")),
            xml: Location::Path(shipped("cldr-supplemental.xml")),
            report: here.join("import-report.html"),
            shared: None,
            rows: None,
            repeat: 1,
            tolerate: Tolerate::None,
            publish: None,
        }
    }
}

impl ImportWorkflow {
    /// The same import, whatever folder a worker runs in. Relative paths are meant from where it is asked for.
    pub fn absolute(self) -> std::io::Result<Self> {
        Ok(Self {
            csv: self.csv.absolute()?,
            xml: self.xml.absolute()?,
            report: std::path::absolute(&self.report)?,
            shared: self.shared.as_ref().map(Location::absolute).transpose()?,
            publish: self.publish.as_ref().map(std::path::absolute).transpose()?,
            ..self
        })
    }
}

impl Workflow for ImportWorkflow {
    const NAME: &str = "ImportWorkflow";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        // Without a current folder a relative path stays one, and the job that cannot find it says so.
        let Self { csv, xml, report, shared, rows, repeat, tolerate, publish } =
            self.clone().absolute().unwrap_or_else(|_| self.clone());

        let territories = flow.run(ImportXml { from: xml.clone(), shared: shared.clone() });
        let imported = flow.expand(DownloadCsv { from: csv.clone(), shared, rows, repeat }).tolerate(tolerate);
        let report =
            flow.run(GenReport { to: report, csv, xml, added: imported.outputs(), territories: territories.outputs() });
        if let Some(to) = publish {
            let approval = flow.wait_for::<Approval>("approval").after(report);
            flow.run(Publish { report: report.outputs(), approval: approval.outputs(), to });
        }
        Ok(())
    }
}
