//! Isolator `@NAME@`. The contract: docs/isolator.md and schema/isolator.fbs of the SDK.
use gantry::fb::isolator::*;
use gantry::*;
use std::collections::HashSet;

/// Calls come one at a time (one strand), so nothing here is locked.
pub struct @CLASS@ {
    host: Host<Self>,
    variable: String,
    containers: HashSet<String>,
}

impl Module for @CLASS@ {
    fn new(host: Host<Self>) -> Self {
        @CLASS@ { host, variable: String::new(), containers: HashSet::new() }
    }

    /// Values arrive validated against module.toml. Refuse what only this module can judge, naming the key.
    fn configure(&mut self, settings: Settings<'_>, _: &mut Call<'_, ()>) -> Reply<()> {
        let variable = settings.text("variable");
        if variable.is_empty() || variable.contains('=') {
            let message = format!("variable \"{}\" cannot be the name of an environment variable", variable);
            return Error::new(Code::INVALID_ARGUMENT, message).key("variable").into();
        }
        self.variable = variable.to_string();
        Ok(()).into()
    }
}

impl isolator::Isolator for @CLASS@ {
    /// Once after start: the containers that were alive before. Know them again; report as orphans what you find of yours in
    /// the outside world (directories, links, rules) that is not among them. This module leaves nothing there.
    fn recover(&mut self, request: Recover<'_>, _: &mut Call<'_, RecoveredT>) -> Reply<RecoveredT> {
        self.containers = request.containers().iter().map(|c| c.container_id().to_string()).collect();
        Ok(RecoveredT::default()).into()
    }

    /// Before the first process exists: the place to refuse a launch, and to say what the launcher shall do. May come twice.
    fn prepare(&mut self, request: Prepare<'_>, _: &mut Call<'_, PreparedT>) -> Reply<PreparedT> {
        self.containers.insert(request.container_id().to_string());
        let variable = fb::VariableT { name: self.variable.clone(), value: "@NAME@".into(), ..Default::default() };
        Ok(PreparedT { environment: vec![variable], ..Default::default() }).into()
    }

    /// The first process exists and is held before its exec: `request.pid()`, and its pidfd in `call.fds()`. Whatever is set
    /// on it now (limits, groups) holds from the task's first instruction on. If you need nothing of it, say `no_attach` in
    /// PREPARE. For work that blocks: `let done = call.later(); self.host.offload(...)` and return `Reply::Later`.
    fn attach(&mut self, request: Attach<'_>, _: &mut Call<'_, ()>) -> Reply<()> {
        let id = request.container_id();
        if !self.containers.contains(id) {
            return Error::new(Code::NOT_FOUND, format!("container {} was not prepared", id)).into();
        }
        self.host.log(Level::Debug, "attached", &[("container", id)]);
        Ok(()).into()
    }

    /// Must succeed for containers never heard of, and twice. Undo all that was done for the container.
    fn cleanup(&mut self, request: Cleanup<'_>, _: &mut Call<'_, ()>) -> Reply<()> {
        self.containers.remove(request.container_id());
        Ok(()).into()
    }
}

export_module!(isolator, @CLASS@, "@NAME@");

#[cfg(test)]
mod tests;
