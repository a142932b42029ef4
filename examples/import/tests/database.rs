//! The database as the jobs use it: many at once, again and again, from several processes.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use import::{Airport, Database};

fn airport(number: u32) -> Airport {
    Airport {
        pass: number / 10_000,
        icao: format!("{:04}", number % 10_000),
        iata: None,
        name: format!("Strip {number}"),
        city: None,
        subdivision: None,
        country: ["US", "DE", "NZ"][number as usize % 3].to_owned(),
        elevation: f64::from(number % 3_000),
        latitude: 10.5,
        longitude: 20.5,
        time_zone: "Europe/Berlin".to_owned(),
        local_code: None,
    }
}

/// Upserts `count` airports with up to `at_once` waiting; how many were new.
async fn import(database: &Database, workflow: &str, count: u32, at_once: usize) -> usize {
    stream::iter(0..count)
        .map(|number| database.upsert(workflow, airport(number)))
        .buffer_unordered(at_once)
        .try_fold(0, async |new, is_new| Ok(new + usize::from(is_new)))
        .await
        .unwrap()
}

fn new_database() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("import.db")).unwrap();
    (folder, database)
}

#[tokio::test]
async fn an_upsert_says_whether_its_import_added_the_airport_however_often_it_is_repeated() {
    let (_folder, database) = new_database();
    assert!(database.upsert("w", airport(1)).await.unwrap());
    assert!(database.upsert("w", airport(1)).await.unwrap());

    let corrected = Airport { name: "Corrected".to_owned(), elevation: 9_000.0, ..airport(1) };
    assert!(!database.upsert("another", corrected).await.unwrap());

    let figures = database.figures("another").await.unwrap();
    assert_eq!(figures.airports, 1);
    assert_eq!(figures.elevations.highest.unwrap().name, "Corrected");
}

#[tokio::test]
async fn the_same_airport_of_another_pass_is_another_row() {
    let (_folder, database) = new_database();
    for pass in 0..3 {
        assert!(database.upsert("w", Airport { pass, ..airport(1) }).await.unwrap());
    }
    let figures = database.figures("w").await.unwrap();
    assert_eq!((figures.airports, figures.passes), (3, 3));
}

#[tokio::test]
async fn what_has_been_answered_is_there_when_the_file_is_opened_again() {
    let (folder, database) = new_database();
    assert_eq!(import(&database, "w", 5_000, 64).await, 5_000);
    drop(database);

    let path = folder.path().join("import.db");
    assert!(!folder.path().join("import.db-wal").exists(), "the file is whole by itself");
    let database = Database::open(&path).unwrap();
    assert_eq!(database.figures("w").await.unwrap().airports, 5_000);
    assert_eq!(import(&database, "again", 5_000, 64).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_writers_share_one_file_and_each_airport_is_new_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("import.db");
    // Opened at the same moment, as several workers do on a new file.
    let opening = (0..4).map(|_| {
        let path = path.clone();
        tokio::task::spawn_blocking(move || Database::open(&path).unwrap())
    });
    let databases: Vec<_> = stream::iter(opening).buffer_unordered(4).map(Result::unwrap).collect().await;
    let importing = databases.into_iter().zip(["one", "two", "three", "four"]).map(|(database, workflow)| {
        let database = Arc::new(database);
        tokio::spawn(async move { import(&database, workflow, 2_000, 32).await })
    });
    let new: usize =
        stream::iter(importing).buffer_unordered(4).map(Result::unwrap).collect::<Vec<_>>().await.iter().sum();
    assert_eq!(new, 2_000);
}

#[tokio::test]
async fn the_figures_are_those_of_one_workflow_since_it_began_anew() {
    let (_folder, database) = new_database();
    import(&database, "first", 30, 8).await;
    database.begin("second", true).await.unwrap();
    import(&database, "second", 10, 8).await;
    assert_eq!(database.figures("second").await.unwrap().airports, 10);

    database.begin("second", false).await.unwrap();
    assert_eq!(database.figures("second").await.unwrap().airports, 10, "going on is not beginning anew");
    database.begin("second", true).await.unwrap();
    assert_eq!(database.figures("second").await.unwrap().airports, 0);
    assert_eq!(database.figures("unheard of").await.unwrap().airports, 0);
}

mod files_that_cannot_be_used {
    use super::*;
    use std::path::Path;

    fn refused(path: &Path) -> String {
        Database::open(path).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_is_no_database_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        let text = "these are notes, not a database ".repeat(100);
        std::fs::write(&path, &text).unwrap();
        assert!(refused(&path).contains("notes.txt is not a SQLite database: choose another file with --db"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn the_database_of_another_program_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theirs.db");
        let theirs = rusqlite::Connection::open(&path).unwrap();
        theirs.execute_batch("CREATE TABLE airport (x)").unwrap();
        drop(theirs);
        let before = std::fs::read(&path).unwrap();
        assert!(refused(&path).contains("is the database of another program"));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_layout_from_another_time_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("import.db");
        drop(Database::open(&path).unwrap());
        let newer = rusqlite::Connection::open(&path).unwrap();
        newer.pragma_update(None, "user_version", 7).unwrap();
        drop(newer);
        assert!(refused(&path).contains("has layout 7, this program writes layout 2"));
    }

    #[test]
    fn a_folder_and_a_place_below_a_file_are_no_databases() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refused(folder.path()).contains("it is a folder"));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(refused(&file.join("import.db")).contains("its folder"));
    }
}
