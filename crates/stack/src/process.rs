//! Child processes that never outlive the lab, whatever ends it.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    io,
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};

use nix::{
    fcntl::{OFlag, open},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{Signal, killpg},
        stat::Mode,
    },
    unistd::{Pid, write},
};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// Whom a child runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// As the lab itself.
    Same,
    /// As nobody in particular, for programs that refuse root; the lab's own user when that is not
    /// root. Files stay the lab's: only the number changes, inside a user namespace.
    NotRoot,
}

/// How a child sees the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guise {
    /// Whom it runs as.
    pub identity: Identity,
    /// A directory that it finds merged into `/usr/share`, where the system allows that.
    pub usr_share: Option<PathBuf>,
}

impl Guise {
    /// Nothing is different.
    pub const PLAIN: Self = Self {
        identity: Identity::Same,
        usr_share: None,
    };
}

/// A child with all of its descendants that stayed in its process group. Dropping it kills them.
#[derive(Debug)]
pub struct Group {
    child: Child,
    id: Pid,
    ended: bool,
}

impl Group {
    /// Starts the leader of a new group.
    ///
    /// The kernel kills the leader when the thread that calls this ends: call it from the main thread.
    pub fn spawn(command: &mut Command, guise: &Guise) -> io::Result<Self> {
        command.process_group(0).kill_on_drop(true);
        confine(command, guise);
        let child = command.spawn()?;
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("the child ended before its id was known"))?;
        Ok(Self {
            child,
            id,
            ended: false,
        })
    }

    /// The leader's process id, which is the group's id too.
    pub fn id(&self) -> u32 {
        self.id.as_raw().unsigned_abs()
    }

    /// Its output and errors, where they are piped and nobody has taken them yet.
    pub fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits for the leader.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.end();
        Ok(status)
    }

    /// Asks the leader to end, and kills the group when it has not within `grace`.
    pub async fn stop(&mut self, grace: Duration) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = nix::sys::signal::kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        if tokio::time::timeout(grace, self.child.wait())
            .await
            .is_err()
        {
            self.end();
            let _ = self.child.wait().await;
        }
        self.end();
    }

    /// Kills what is left of the group.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            let _ = killpg(self.id, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ties the child's life to the calling thread's, and gives it another user number if asked.
#[expect(
    unsafe_code,
    reason = "pre_exec is the only place between fork and exec; the hook makes system calls and nothing else"
)]
fn confine(command: &mut Command, guise: &Guise) {
    let lab = nix::unistd::getpid();
    let is_root = nix::unistd::geteuid().is_root();
    let map_user = guise.identity == Identity::NotRoot && is_root;
    // Made here, because the hook must not allocate.
    let overlay = guise.usr_share.as_deref().and_then(|dir| {
        let dir = dir.to_str().filter(|dir| !dir.contains([':', ',', '\\']))?;
        CString::new(format!("lowerdir={dir}:/usr/share")).ok()
    });
    let me = CString::new(format!("{0} {0} 1", nix::unistd::geteuid())).unwrap_or_default();
    let hook = move || {
        if map_user {
            enter_user_namespace(b"1000 0 1")?;
        }
        if let Some(overlay) = &overlay {
            // Without it the component still works, only its web pages are missing.
            let _ = merge_usr_share(overlay, (!is_root).then_some(me.as_bytes()));
        }
        // After the change of identity, which would clear it.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The lab may have died before that line: then nobody would send the signal any more.
        if nix::unistd::getppid() == lab {
            Ok(())
        } else {
            Err(io::ErrorKind::Interrupted.into())
        }
    };
    // SAFETY: the hook only makes system calls that are safe between fork and exec.
    unsafe { command.pre_exec(hook) };
}

/// Enters a user namespace with one user and one group in it, given as `inside outside 1`.
fn enter_user_namespace(map: &[u8]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER)?;
    for (file, content) in [
        (c"/proc/self/setgroups", &b"deny"[..]),
        (c"/proc/self/uid_map", map),
        (c"/proc/self/gid_map", map),
    ] {
        let file = open(file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        write(&file, content)?;
    }
    Ok(())
}

/// Gives the process a `/usr/share` of its own: the system's with more in it. Programs of the
/// Debian family have such paths compiled in, and nothing is to be installed for them.
fn merge_usr_share(overlay: &CStr, user_map: Option<&[u8]>) -> io::Result<()> {
    if let Some(map) = user_map {
        enter_user_namespace(map)?;
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&CStr> = None;
    mount(
        none,
        c"/",
        none,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        none,
    )?;
    mount(
        Some(c"overlay"),
        c"/usr/share",
        Some(c"overlay"),
        MsFlags::MS_RDONLY,
        Some(overlay),
    )?;
    Ok(())
}

/// Resident memory of each process group, in bytes. Pages that processes share count for each of
/// them.
pub(crate) fn rss_by_group() -> HashMap<u32, u64> {
    let mut groups = HashMap::new();
    let processes = procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten();
    for stat in processes.filter_map(|process| process.stat().ok()) {
        *groups.entry(stat.pgrp.unsigned_abs()).or_default() += stat.rss * procfs::page_size();
    }
    groups
}
