//! The end of a desk: everything in order, and nothing left.

use super::Desk;
use crate::Leaks;
use crate::leak::{self, Count};
use crate::process::Process;
use std::fs;
use std::process::ExitStatus;

impl Desk {
    /// Ends everything in order; what went wrong.
    fn stop(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut ended = |process: &mut Process, end: fn(&mut Process) -> ExitStatus| {
            let status = end(process);
            if !status.success() {
                wrong.push(format!("{} ended with {status}", process.name()));
            }
        };
        self.vms.values_mut().for_each(|vm| ended(&mut vm.process, Process::finish));
        let others = [&mut self.serve, &mut self.proxy].into_iter().flatten();
        others.for_each(|process| ended(process, Process::terminate));
        // A test may have another instead.
        if self.compositor.was_started() {
            ended(self.compositor.process_mut(), Process::terminate);
        }
        if let Some(outer) = self.compositor.outer_mut() {
            ended(outer.process_mut(), Process::terminate);
        }
        let left = Leaks::after_all(self.folder.path()).find();
        wrong.extend(left.into_iter().map(|left| format!("left at the end: {left}")));
        wrong
    }

    fn show_logs(&self) {
        let mut paths: Vec<_> =
            fs::read_dir(self.logs()).into_iter().flatten().flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths {
            let tail = Process::tail(&path).unwrap_or_default();
            eprintln!("---- {} ----\n{tail}", path.file_name().unwrap_or_default().display());
        }
        eprintln!("---- there was ----\n{:#?}", Count::take(self.folder.path()));
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
            // Our own children are killed as the fields are dropped; this is for theirs.
            return leak::kill(self.folder.path());
        }
        self.close();
        let mut wrong = Vec::new();
        if let Some(baseline) = self.baseline.take() {
            let found = baseline.find_but(|| self.kept());
            wrong.extend(found.into_iter().map(|found| format!("left by clients: {found}")));
        }
        wrong.extend(self.stop());
        if !wrong.is_empty() {
            self.show_logs();
            panic!("{}", wrong.join("; "));
        }
    }
}
