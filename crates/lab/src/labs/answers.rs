//! What a learner has found out: `answers.yaml`, a word or a number to each question.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Its name in the folder of the work.
pub(super) const FILE: &str = "answers.yaml";

/// The answers to a lab's questions.
#[derive(Debug)]
pub(super) struct Answers {
    file: PathBuf,
    given: BTreeMap<String, Value>,
}

impl Answers {
    pub(super) fn parse(file: PathBuf, text: &str) -> anyhow::Result<Self> {
        let given = serde_saphyr::from_str(text).with_context(|| {
            format!("{} is not `question: answer` on each line", file.display())
        })?;
        Ok(Self { file, given })
    }

    fn answer(&self, question: &str) -> anyhow::Result<&Value> {
        let file = self.file.display();
        match self.given.get(question) {
            None => bail!("{file} has no question `{question}` any more"),
            Some(Value::Null) => bail!("`{question}` in {file} is not answered yet"),
            Some(answer) => Ok(answer),
        }
    }

    /// A word, or whatever else was written there.
    pub(super) fn text(&self, question: &str) -> anyhow::Result<String> {
        match self.answer(question)? {
            Value::String(text) => Ok(text.trim().to_owned()),
            // Digits alone, as some ids are.
            Value::Number(number) => Ok(number.to_string()),
            other => bail!("`{question}` asks for a word, not {other}"),
        }
    }

    pub(super) fn number(&self, question: &str) -> anyhow::Result<f64> {
        let answer = self.answer(question)?;
        answer
            .as_f64()
            .with_context(|| format!("`{question}` asks for a number, not {answer}"))
    }

    /// Several words.
    pub(super) fn list(&self, question: &str) -> anyhow::Result<Vec<String>> {
        let answer = self.answer(question)?;
        let words = answer.as_array().map(|words| {
            let words = words
                .iter()
                .map(|word| Some(word.as_str()?.trim().to_owned()));
            words.collect::<Option<Vec<_>>>()
        });
        words
            .flatten()
            .with_context(|| format!("`{question}` asks for a list, as [one, two], not {answer}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_of_another_kind_is_named() {
        let text = "id: 0012\nopen:\nmany: [a, b]\ncount: 3\n";
        let answers = Answers::parse(FILE.into(), text).unwrap();
        assert_eq!(answers.number("count").unwrap() as i64, 3);
        assert_eq!(answers.list("many").unwrap(), ["a", "b"]);
        for (question, why) in [("open", "not answered yet"), ("gone", "no question")] {
            let error = answers.text(question).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(question), "{error}");
        }
        assert!(
            answers
                .number("many")
                .unwrap_err()
                .to_string()
                .contains("a number")
        );
        assert!(
            answers
                .list("count")
                .unwrap_err()
                .to_string()
                .contains("a list")
        );
        assert!(Answers::parse(FILE.into(), "- a\n").is_err());
    }
}
