//! Files from a web server that breaks off, changes its mind, and forgets.

use std::{fs, path::Path};

use import::{
    Location,
    fetch::{FetchError, Fetched, How},
};
use web::{Behaviour, WebServer};

mod web;

async fn fetch(from: &Location, folder: &Path) -> Result<Fetched, FetchError> {
    from.fetch(Some(&Location::from(folder.to_owned())), &mut |_, _| {}).await
}

/// A body in which every place is told from every other.
fn numbers(count: u32) -> Vec<u8> {
    (0..count).flat_map(u32::to_le_bytes).collect()
}

fn from_byte(byte: usize) -> Option<String> {
    Some(format!("bytes={byte}-"))
}

#[tokio::test]
async fn a_file_is_fetched_whole_and_named_after_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(Behaviour::serving("icao,name\n")).await;
    let mut told = Vec::new();
    let shared = Location::from(folder.path().join("not/there/yet"));
    let fetched = server.file().fetch(Some(&shared), &mut |got, of| told.push((got, of))).await.unwrap();
    assert_eq!(fs::read_to_string(&fetched.path).unwrap(), "icao,name\n");
    assert!(fetched.path.to_string_lossy().ends_with("-airports.csv"));
    assert_eq!(told.last(), Some(&(10, 10)));
}

#[tokio::test]
async fn a_download_that_was_cut_off_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let body = numbers(100_000);
    let server = WebServer::start(Behaviour { cut_after: Some(150_000), ..Behaviour::serving(body.clone()) }).await;

    let error = fetch(&server.file(), folder.path()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("broke off after 150,000 of 400,000 bytes"), "{text}");
    assert!(text.contains("the next attempt goes on from there"), "{text}");
    assert!(!error.is_permanent());
    assert_eq!(server.requests(), [None]);

    let error = fetch(&server.file(), folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("broke off after 300,000 of 400,000 bytes"), "{error}");
    assert_eq!(server.requests(), [None, from_byte(150_000)]);

    let fetched = fetch(&server.file(), folder.path()).await.unwrap();
    assert_eq!(fetched.how, How::Copied { already_here: 300_000 });
    assert_eq!(fs::read(&fetched.path).unwrap(), body);
    assert_eq!(server.requests(), [None, from_byte(300_000)]);
}

#[tokio::test]
async fn with_an_etag_a_short_break_is_mended_within_one_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let body = numbers(100_000);
    let behaviour = Behaviour { e_tag: Some("\"v1\""), cut_after: Some(250_000), ..Behaviour::serving(body.clone()) };
    let server = WebServer::start(behaviour).await;
    let fetched = fetch(&server.file(), folder.path()).await.unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), body);
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_cut_off_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let old = vec![b'o'; 400_000];
    let server = WebServer::start(Behaviour { cut_after: Some(100_000), ..Behaviour::serving(old) }).await;
    fetch(&server.file(), folder.path()).await.unwrap_err();

    let new = vec![b'n'; 400_000];
    server.behave(|behaviour| {
        *behaviour = Behaviour { changed: Some("Wed, 25 Nov 2026 00:00:00 GMT"), ..Behaviour::serving(new.clone()) };
    });
    let fetched = fetch(&server.file(), folder.path()).await.unwrap();
    assert_eq!(fetched.how, How::Copied { already_here: 0 });
    assert!(fs::read(&fetched.path).unwrap() == new);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".part")), "{left:?}");
}

#[tokio::test]
async fn a_server_that_ignores_ranges_sends_it_all_again() {
    let folder = tempfile::tempdir().unwrap();
    let body = numbers(50_000);
    let behaviour = Behaviour { ranges: false, cut_after: Some(70_000), ..Behaviour::serving(body.clone()) };
    let server = WebServer::start(behaviour).await;
    fetch(&server.file(), folder.path()).await.unwrap_err();
    server.behave(|behaviour| behaviour.cut_after = None);
    let fetched = fetch(&server.file(), folder.path()).await.unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), body);
}

#[tokio::test]
async fn what_cannot_be_told_from_another_file_is_never_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let old = vec![b'o'; 100_000];
    let behaviour = Behaviour { changed: None, cut_after: Some(40_000), ..Behaviour::serving(old) };
    let server = WebServer::start(behaviour).await;
    fetch(&server.file(), folder.path()).await.unwrap_err();

    let new = vec![b'n'; 100_000];
    server.behave(|behaviour| *behaviour = Behaviour { changed: None, ..Behaviour::serving(new.clone()) });
    for _ in 0..2 {
        let fetched = fetch(&server.file(), folder.path()).await.unwrap();
        assert_eq!(fetched.how, How::Copied { already_here: 0 });
        assert!(fs::read(&fetched.path).unwrap() == new);
    }
}

#[tokio::test]
async fn a_file_that_is_kept_and_unchanged_is_used_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(Behaviour::serving(numbers(1_000))).await;
    let first = fetch(&server.file(), folder.path()).await.unwrap();
    let second = fetch(&server.file(), folder.path()).await.unwrap();
    assert_eq!((second.path, second.how), (first.path, How::Kept));
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(Behaviour::serving("")).await;
    assert_eq!(fetch(&server.file(), folder.path()).await.unwrap().bytes, 0);
}

#[tokio::test]
async fn two_that_fetch_the_same_file_at_once_do_not_spoil_it() {
    let folder = tempfile::tempdir().unwrap();
    let body = numbers(500_000);
    let server = WebServer::start(Behaviour::serving(body.clone())).await;
    let location = server.file();
    let (a, b) = tokio::join!(fetch(&location, folder.path()), fetch(&location, folder.path()));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.path, b.path);
    assert!(a.how == How::Kept || b.how == How::Kept);
    assert!(fs::read(&a.path).unwrap() == body);
}

#[tokio::test]
async fn what_is_not_there_or_not_for_us_is_permanent_and_a_bad_day_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(Behaviour { status: 404, ..Behaviour::serving("no such file") }).await;
    for (status, permanent, says) in
        [(404, true, "does not exist"), (403, true, "may not be read"), (503, false, "503 Service Unavailable")]
    {
        server.behave(|behaviour| behaviour.status = status);
        let error = fetch(&server.file(), folder.path()).await.unwrap_err();
        assert!(error.to_string().contains(says), "{status}: {error}");
        assert!(error.to_string().contains("/data/airports.csv?version=7"), "{status}: {error}");
        assert_eq!(error.is_permanent(), permanent, "{status}");
    }
}

#[tokio::test]
async fn an_unreachable_host_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    // Port 1 of the loopback: nobody listens there.
    let error = fetch(&"http://127.0.0.1:1/a.csv".parse().unwrap(), folder.path()).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot fetch http://127.0.0.1:1/a.csv: Connection refused"), "{error}");
    assert!(!error.is_permanent());
}

mod files_of_this_machine {
    use super::*;

    #[tokio::test]
    async fn are_read_in_place_unless_a_shared_location_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        fs::write(&file, "rows").unwrap();
        let location = Location::from(file.clone());

        let in_place = location.fetch(None, &mut |_, _| {}).await.unwrap();
        assert_eq!((in_place.path, in_place.how), (file.clone(), How::InPlace));

        let shared = tempfile::tempdir().unwrap();
        let copied = fetch(&location, shared.path()).await.unwrap();
        assert!(copied.path.starts_with(shared.path()));
        assert_eq!(fs::read_to_string(copied.path).unwrap(), "rows");
        assert_eq!(fetch(&location, shared.path()).await.unwrap().how, How::Kept);

        let already_shared = fetch(&location, folder.path()).await.unwrap();
        assert_eq!(already_shared.how, How::InPlace);
    }

    #[tokio::test]
    async fn that_are_missing_or_no_files_say_so() {
        let folder = tempfile::tempdir().unwrap();
        for shared in [None, Some(Location::from(folder.path().join("shared")))] {
            let missing = Location::from(folder.path().join("nothing.csv"));
            let error = missing.fetch(shared.as_ref(), &mut |_, _| {}).await.unwrap_err();
            assert!(error.to_string().ends_with("nothing.csv does not exist"), "{error}");
            assert!(error.is_permanent());

            let a_folder = Location::from(folder.path().to_owned());
            let error = a_folder.fetch(shared.as_ref(), &mut |_, _| {}).await.unwrap_err();
            assert!(error.to_string().contains("is a folder: name a file in it"), "{error}");
        }
    }

    #[tokio::test]
    async fn cannot_be_kept_where_there_is_no_room_for_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        fs::write(&file, "rows").unwrap();
        let other = tempfile::tempdir().unwrap();
        let occupied = other.path().join("occupied");
        fs::write(&occupied, "").unwrap();
        let error = fetch(&Location::from(file), &occupied).await.unwrap_err();
        assert!(error.to_string().contains("cannot keep") && error.is_permanent(), "{error}");
    }
}

#[tokio::test]
async fn a_web_address_cannot_keep_files() {
    let server = WebServer::start(Behaviour::serving("x")).await;
    let error = server.file().fetch(Some(&server.file()), &mut |_, _| {}).await.unwrap_err();
    assert!(error.to_string().contains("a shared location is a folder or s3://bucket/prefix"), "{error}");
    assert!(error.is_permanent());
}
