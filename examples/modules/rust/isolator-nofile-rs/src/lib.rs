//! Isolator `nofile-rs`: caps the open files of a task. See README.md.
use gantry::fb::isolator::*;
use gantry::*;
use std::collections::HashMap;
use std::os::raw::c_int;

/// One instance. Nothing is locked: the host enters it one call at a time (one strand).
pub struct Nofile {
    host: Host<Self>,
    limit: u64,
    /// Container -> its limit, from PREPARE to CLEANUP.
    prepared: HashMap<String, u64>,
}

impl Module for Nofile {
    fn new(host: Host<Self>) -> Self {
        Nofile { host, limit: 0, prepared: HashMap::new() }
    }

    /// Type, range and default were checked against module.toml.
    fn configure(&mut self, settings: Settings<'_>, _: &mut Call<'_, ()>) -> Reply<()> {
        let limit = settings.number("limit");
        if limit < 16 {
            let message = format!("limit is {}; a process needs at least 16 open files", limit);
            return Error::new(Code::INVALID_ARGUMENT, message).key("limit").into();
        }
        self.limit = limit as u64;
        Ok(()).into()
    }
}

impl isolator::Isolator for Nofile {
    /// The containers that live already. Linux has kept their limits; they are only known again. Nothing of ours can outlive
    /// a container, so there are no orphans.
    fn recover(&mut self, request: Recover<'_>, _: &mut Call<'_, RecoveredT>) -> Reply<RecoveredT> {
        self.prepared = request.containers().iter().map(|c| (c.container_id().to_string(), self.limit)).collect();
        Ok(RecoveredT::default()).into()
    }

    /// Before the task's first process exists: nothing to ask of the launcher, but ATTACH must come. The request borrows the
    /// host's bytes, so what is needed later is copied; the compiler sees to that.
    fn prepare(&mut self, request: Prepare<'_>, _: &mut Call<'_, PreparedT>) -> Reply<PreparedT> {
        self.prepared.insert(request.container_id().to_string(), self.limit);
        Ok(PreparedT::default()).into()
    }

    /// The first process exists but is held before its exec: what is set now, all its children inherit. prlimit does not
    /// block, so it may run on the strand; work that may belongs into `host.offload`.
    fn attach(&mut self, request: Attach<'_>, _: &mut Call<'_, ()>) -> Reply<()> {
        now(|| {
            let id = request.container_id();
            let limit = match self.prepared.get(id) {
                Some(limit) => *limit,
                None => return Err(Error::new(Code::NOT_FOUND, format!("container {} was not prepared", id))),
            };
            let pid = request.pid();
            if pid <= 0 {
                // 0 would mean this very process.
                return Err(Error::new(Code::INVALID_ARGUMENT, format!("pid {} is no process", pid)));
            }
            cap_open_files(pid, limit)
                .map_err(|e| Error::from(e).because(format!("cap open files of process {} at {}", pid, limit)))?;
            self.host.log(Level::Debug, "open files capped", &[("container", id), ("limit", &limit.to_string())]);
            Ok(())
        })
    }

    /// Must succeed for containers never heard of, and twice.
    fn cleanup(&mut self, request: Cleanup<'_>, _: &mut Call<'_, ()>) -> Reply<()> {
        self.prepared.remove(request.container_id());
        Ok(()).into()
    }
}

#[repr(C)]
struct Rlimit {
    soft: u64,
    hard: u64,
}
const RLIMIT_NOFILE: c_int = 7; // on all machines Linux runs on but MIPS and SPARC
extern "C" {
    // Of glibc, which every Rust program links; so no crate is needed.
    fn prlimit64(pid: c_int, resource: c_int, new: *const Rlimit, old: *mut Rlimit) -> c_int;
}

fn cap_open_files(pid: i32, limit: u64) -> std::io::Result<()> {
    let wanted = Rlimit { soft: limit, hard: limit };
    // SAFETY: both pointers are valid or null as prlimit(2) wants them.
    match unsafe { prlimit64(pid, RLIMIT_NOFILE, &wanted, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

export_module!(isolator, Nofile, "nofile-rs");

#[cfg(test)]
mod tests;
