//! The shipped files, counted by a tool that shares nothing with this program.

// Not every test looks at everything.
#![allow(dead_code)]

use std::{collections::BTreeMap, process::Command};

use import::jobs::shipped;
use serde::Deserialize;

/// What Python's own CSV and XML readers count.
#[derive(Deserialize)]
pub struct Counted {
    /// By country code.
    pub airports: BTreeMap<String, u64>,
    /// Code, GDP, literacy, population.
    pub territories: Vec<(String, f64, f64, u32)>,
    /// By band of 500 feet.
    pub elevations: BTreeMap<i64, u64>,
}

pub fn by_python() -> Counted {
    const PROGRAM: &str = r#"
import collections, csv, json, math, sys
import xml.etree.ElementTree as ElementTree

with open(sys.argv[1], encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(file))
territories = ElementTree.parse(sys.argv[2]).getroot().findall("territoryInfo/territory")
print(json.dumps({
    "airports": collections.Counter(row["country"] for row in rows),
    "territories": [
        [t.get("type"), float(t.get("gdp")), float(t.get("literacyPercent")), int(t.get("population"))]
        for t in territories
    ],
    "elevations": collections.Counter(math.floor(float(row["elevation"]) / 500) * 500 for row in rows),
}))
"#;
    let python = Command::new("python3")
        .args(["-c", PROGRAM])
        .args([shipped("airports.csv"), shipped("cldr-supplemental.xml")])
        .output()
        .expect("this test counts with python3 to compare: install it");
    assert!(python.status.success(), "python3 failed: {}", String::from_utf8_lossy(&python.stderr));
    serde_json::from_slice(&python.stdout).unwrap()
}
