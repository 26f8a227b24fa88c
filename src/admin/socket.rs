//! The socket's place and rights. A unix socket's path may be about a hundred bytes long, a directory's may be longer:
//! then the socket is named by a shorter way to the same place.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "admin.sock";

/// The longest path that every system takes, in bytes.
const MAX_PATH_BYTES: usize = 100;

/// Makes the socket in `data`, for the owner only. The caller holds the data directory's lock, so a socket that is
/// there already belongs to a server that is gone, and gives way.
///
/// # Errors
/// As the system says; also when something that is no socket has the name.
pub fn bind(data: &Path) -> io::Result<UnixListener> {
    let place = data.join(SOCKET_NAME);
    match std::fs::symlink_metadata(&place) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(&place)?,
        Ok(_) => {
            let what = format!("{} is in the way and is no socket; move it elsewhere", place.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let way = ShortWay::to(data)?;
    let listener = UnixListener::bind(way.socket())?;
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Opens a connection to the server that runs on `data`.
///
/// # Errors
/// As the system says: `NotFound` and `ConnectionRefused` mean that no server runs there.
pub async fn connect(data: &Path) -> io::Result<UnixStream> {
    let way = ShortWay::to(data)?;
    UnixStream::connect(way.socket()).await
}

/// A way to the directory that leaves room for the socket's name.
struct ShortWay {
    directory: PathBuf,
    /// Keeps `/proc/self/fd/N` alive.
    _open: Option<File>,
}

impl ShortWay {
    fn to(data: &Path) -> io::Result<Self> {
        let fits = |path: &Path| path.as_os_str().len() + 1 + SOCKET_NAME.len() <= MAX_PATH_BYTES;
        if fits(data) {
            return Ok(Self { directory: data.to_owned(), _open: None });
        }
        let working = std::env::current_dir().ok();
        if let Some(below) = working.and_then(|working| data.strip_prefix(working).ok().map(Path::to_owned))
            && fits(&below)
        {
            return Ok(Self { directory: below, _open: None });
        }
        if cfg!(target_os = "linux") {
            let open = File::open(data)?;
            let directory = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
            return Ok(Self { directory, _open: Some(open) });
        }
        let what = format!("the path {} is too long for a socket; use a shorter data directory", data.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, what))
    }

    fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET_NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_owner_may_open_the_socket() {
        let data = tempfile::tempdir().unwrap();
        let _listener = bind(data.path()).unwrap();
        let mode = std::fs::metadata(data.path().join(SOCKET_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_socket_left_behind_gives_way_and_a_file_does_not() {
        let data = tempfile::tempdir().unwrap();
        drop(bind(data.path()).unwrap());
        assert_eq!(connect(data.path()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let _second = bind(data.path()).unwrap();
        assert!(connect(data.path()).await.is_ok());

        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join(SOCKET_NAME), "precious").unwrap();
        assert!(bind(data.path()).unwrap_err().to_string().contains("is no socket"));
        assert_eq!(std::fs::read_to_string(data.path().join(SOCKET_NAME)).unwrap(), "precious");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_data_directory_may_have_a_long_path() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("d".repeat(150));
        std::fs::create_dir(&data).unwrap();
        let _listener = bind(&data).unwrap();
        assert!(data.join(SOCKET_NAME).exists());
        assert!(connect(&data).await.is_ok());
    }

    #[tokio::test]
    async fn without_a_server_there_is_no_socket() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(connect(data.path()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
