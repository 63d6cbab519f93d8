//! Queries that return nothing in a lab where all is well, and why. Every other query has to return data.

/// Why a query returns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// What it asks of is there in a Kubernetes cluster only.
    NeedsCluster,
    /// It shows what is wrong, and nothing is.
    ShowsTrouble,
    /// It asks of limits, or of processor time, of control groups; whether there are any is this machine's matter.
    DependsOnMachine,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NeedsCluster => "need a Kubernetes cluster",
            Self::ShowsTrouble => "show what is wrong, and nothing is",
            Self::DependsOnMachine => "depend on this machine's control groups",
        })
    }
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// Uid of the dashboard.
    pub dashboard: &'static str,
    /// Title of the panel.
    pub panel: &'static str,
    /// Its queries, by letter.
    pub queries: &'static str,
    /// Why they return nothing.
    pub reason: Reason,
    /// It may return data all the same: trouble comes and goes, and machines differ.
    pub may_speak: bool,
}

const fn cluster(panel: &'static str, queries: &'static str) -> Quiet {
    Quiet {
        dashboard: crate::KUBERNETES,
        panel,
        queries,
        reason: Reason::NeedsCluster,
        may_speak: false,
    }
}

const fn trouble(dashboard: &'static str, panel: &'static str, queries: &'static str) -> Quiet {
    Quiet {
        dashboard,
        panel,
        queries,
        reason: Reason::ShowsTrouble,
        may_speak: true,
    }
}

const fn machine(panel: &'static str, queries: &'static str) -> Quiet {
    Quiet {
        dashboard: crate::KUBERNETES,
        panel,
        queries,
        reason: Reason::DependsOnMachine,
        may_speak: true,
    }
}

/// All of them.
pub const QUIET: &[Quiet] = &[
    trouble(crate::OVERVIEW, "Does not answer", "A"),
    trouble(crate::OVERVIEW, "Firing and pending", "A"),
    trouble(crate::FLASK_API, "Recent traces of failures", "ABC"),
    trouble(crate::FLASK_API, "Recent slow traces", "A"),
    cluster("Nodes not ready", "A"),
    cluster("Pods not running", "A"),
    cluster("Persistent volumes", "A"),
    cluster("Pods by phase", "A"),
    cluster("Restarts", "A"),
    cluster("Replicas missing", "AB"),
    cluster("Pods that do not run", "A"),
    cluster("Containers that wait", "A"),
    cluster("CPU used, asked for and allowed", "ABC"),
    cluster("Memory used, asked for and allowed", "ABC"),
    machine("Containers against their limits", "AB"),
    machine("CPU, the ten busiest", "A"),
    machine("Held back, the ten most", "A"),
    trouble(crate::SLO_DASHBOARD, "Burn-rate alerts", "A"),
    trouble(
        crate::SLO_DASHBOARD,
        "Budget spent while an alert fired",
        "AB",
    ),
    trouble(crate::SLO_DASHBOARD, "Burn rate while an alert fires", "A"),
];

/// Why a query may return nothing, if it may.
#[must_use]
pub fn find(dashboard: &str, panel: &str, query: &str) -> Option<&'static Quiet> {
    QUIET.iter().find(|quiet| {
        quiet.dashboard == dashboard && quiet.panel == panel && quiet.queries.contains(query)
    })
}
