//! Lab 7: questions to Prometheus; an answer is right when it gives, at several times, what the reference gives.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::grader::{AGO, Graded, Grader, Seen};

/// The learner's queries, and those they are held against in the folder of the solution.
const FILE: &str = "queries.yaml";
const SOLUTION: &str = "solution";

type Queries = BTreeMap<String, Option<String>>;

pub(super) async fn grade(it: &Grader<'_>) -> Vec<Graded> {
    let wanted = match it.reference() {
        Ok(wanted) => wanted,
        Err(fault) => {
            return vec![Graded {
                name: "The questions".into(),
                hint: "the clone lacks a file: `git checkout labs`",
                seen: Err(fault),
            }];
        }
    };
    let mut steps = Vec::new();
    for (question, query) in wanted {
        steps.push(Graded {
            seen: it.answered(&question, query.as_deref().unwrap_or_default()).await,
            name: question,
            hint: "ask it in the console's Explore, and read the question in labs/07-promql/README.md again",
        });
    }
    steps
}

fn parse(text: &str) -> anyhow::Result<Queries> {
    serde_saphyr::from_str(text).context("it is not `question: query` on each line")
}

impl Grader<'_> {
    fn reference(&self) -> anyhow::Result<Queries> {
        let file = self.folder.join(SOLUTION).join(FILE);
        parse(&crate::committed::read(&file)?).with_context(|| file.display().to_string())
    }

    async fn answered(&self, question: &str, wanted: &str) -> Seen {
        let queries =
            parse(&self.read(FILE)?).with_context(|| self.file(FILE).display().to_string())?;
        let given = queries.get(question).and_then(Option::as_deref);
        let given = given.with_context(|| format!("`{question}` is not answered yet"))?;
        let series = self.same_answers(given, wanted).await?;
        Ok(vec![format!(
            "{given}: right at {} times, {series} series",
            AGO.len()
        )])
    }
}
