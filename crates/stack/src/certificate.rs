//! The lab's own certificate: self-signed, made anew in good time.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::{ToSpan as _, ZonedDateTime};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

use crate::{Error, HOST, layout::make_dir};

/// Far from the three weeks at which an alert wants it renewed.
const VALID_DAYS: i32 = 90;
/// Made anew at the first start after this.
const RENEW_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The files of the certificate and its key in `dir`, made if they are missing or a month old.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn ensure(dir: &Path) -> Result<[PathBuf; 2], Error> {
    let files = files(dir);
    let fresh = |path: &PathBuf| {
        let written = std::fs::metadata(path).and_then(|file| file.modified());
        written.is_ok_and(|written| {
            SystemTime::now()
                .duration_since(written)
                .is_ok_and(|age| age < RENEW_AFTER)
        })
    };
    if !files.iter().all(fresh) {
        make(dir, VALID_DAYS)?;
    }
    Ok(files)
}

/// Makes a certificate that is valid for some days, and its key, and returns the two files.
///
/// # Errors
/// When they cannot be written.
pub fn make(dir: &Path, valid_days: i32) -> Result<[PathBuf; 2], Error> {
    make_dir(dir)?;
    let files = files(dir);
    let [certificate, key] = &files;
    let fault = |reason: rcgen::Error| Error::Io {
        doing: "make",
        path: certificate.clone(),
        source: std::io::Error::other(reason),
    };
    let day = |days: i32| {
        let date = ZonedDateTime::now().date().saturating_add(days.days());
        date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    let names = ["localhost".to_owned(), HOST.to_owned()];
    let mut params = CertificateParams::new(names).map_err(fault)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Three Pillars lab");
    // Yesterday, for clocks and time zones that are behind.
    (params.not_before, params.not_after) = (day(-1), day(valid_days));
    let pair = KeyPair::generate().map_err(fault)?;
    let signed = params.self_signed(&pair).map_err(fault)?;
    write(key, &pair.serialize_pem())?;
    write(certificate, &signed.pem())?;
    Ok(files)
}

fn files(dir: &Path) -> [PathBuf; 2] {
    ["server.crt", "server.key"].map(|name| dir.join(name))
}

/// Readable by its owner only, from its first byte on.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let fault = |source| Error::Io {
        doing: "write",
        path: path.into(),
        source,
    };
    let partial = path.with_extension("partial");
    match std::fs::remove_file(&partial) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(fault(source)),
        _ => {}
    }
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(fault)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn is_made_once_and_anew_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("tls");
        let files = ensure(&dir).unwrap();
        let read = || {
            files
                .clone()
                .map(|path| std::fs::read_to_string(path).unwrap())
        };
        let first = read();
        assert!(first[0].starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(first[1].starts_with("-----BEGIN PRIVATE KEY-----"));
        let mode = std::fs::metadata(&files[1]).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(ensure(&dir).unwrap(), files);
        assert_eq!(read(), first, "still good");

        let old = SystemTime::now() - RENEW_AFTER - Duration::from_secs(60);
        let file = File::options().write(true).open(&files[0]).unwrap();
        file.set_modified(old).unwrap();
        ensure(&dir).unwrap();
        assert_ne!(read(), first, "a month old");
    }
}
