//! A shared location that is a bucket: what one worker fetched, the others take from there.

use std::{path::Path, sync::Arc};

use object_store::{ObjectStoreExt, buffered::BufWriter};
use tokio::{fs::File, io::AsyncWriteExt};

use super::{
    FetchError, Fetched, OnBytes,
    download::{copy_name, download},
    origin::{Origin, State, innermost},
};

/// Fetches what `origin` holds now to `local`, from the bucket if it is kept there, else from its source, and then
/// keeps it in the bucket. The bucket's copies have the names that a shared folder's have.
pub(super) async fn fetch_through(
    bucket: &Origin,
    origin: &Origin,
    local: &Path,
    on_bytes: OnBytes<'_>,
) -> Result<Fetched, FetchError> {
    let state = State::of(&origin.get().await?.meta);
    let kept = child(bucket, &copy_name(origin, &state));
    let is_kept = match kept.store.head(&kept.path).await {
        Ok(meta) => state.is_certain() && meta.size == state.size,
        Err(object_store::Error::NotFound { .. }) => false,
        Err(error) => return Err(kept.cannot(&error)),
    };
    if is_kept {
        return download(&kept, local, on_bytes).await;
    }
    let fetched = download(origin, local, on_bytes).await?;
    upload(&fetched.path, &kept).await?;
    Ok(fetched)
}

fn child(bucket: &Origin, name: &str) -> Origin {
    let separator = if bucket.shown.ends_with('/') { "" } else { "/" };
    Origin {
        store: Arc::clone(&bucket.store),
        path: bucket.path.clone().join(name),
        shown: format!("{}{separator}{name}", bucket.shown),
        file_name: name.to_owned(),
    }
}

/// Bit by bit, whatever the file's size. The object appears when it is whole.
async fn upload(file: &Path, kept: &Origin) -> Result<(), FetchError> {
    let not_kept = |error: std::io::Error| FetchError::NotKept {
        what: file.display().to_string(),
        place: kept.shown.clone(),
        why: error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<object_store::Error>())
            .map_or_else(|| error.to_string(), innermost),
        permanent: false,
    };
    let mut from = File::open(file).await.map_err(not_kept)?;
    let mut to = BufWriter::new(Arc::clone(&kept.store), kept.path.clone());
    let copied = tokio::io::copy(&mut from, &mut to).await;
    match copied {
        Ok(_) => to.shutdown().await.map_err(not_kept),
        Err(error) => {
            // A multipart upload that nobody ends is paid for until somebody removes it.
            let _ = to.abort().await;
            Err(not_kept(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::{fetch::How, location::Location};

    fn bucket() -> Origin {
        Origin {
            store: Arc::new(InMemory::new()),
            path: "imports".into(),
            shown: "s3://bucket/imports".into(),
            file_name: "imports".into(),
        }
    }

    #[tokio::test]
    async fn what_one_worker_fetched_the_next_takes_from_the_bucket() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a.csv");
        std::fs::write(&source, "some rows").unwrap();
        let origin = Origin::of(&Location::from(source)).unwrap();
        let bucket = bucket();

        let first = folder.path().join("first worker");
        let fetched = fetch_through(&bucket, &origin, &first, &mut |_, _| {}).await;
        assert_eq!(fetched.unwrap().how, How::Copied { already_here: 0 });

        let second = folder.path().join("second worker");
        let fetched = fetch_through(&bucket, &origin, &second, &mut |_, _| {}).await.unwrap();
        assert_eq!(std::fs::read_to_string(&fetched.path).unwrap(), "some rows");
        // The name tells where it came from: a copy of the copy in the bucket.
        let kept = child(&bucket, &copy_name(&origin, &State::of(&origin.get().await.unwrap().meta)));
        assert!(fetched.path.to_string_lossy().ends_with(&kept.file_name));
    }
}
