//! Texts with places for variables: `/api/orders/{order}`.

use std::collections::BTreeMap;

use serde_json::Value;

/// What variables stand for.
pub type Variables = BTreeMap<String, Value>;

/// A text with places for variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

impl Template {
    /// Reads `text`, in which `{name}` stands for a variable; `{{` and `}}` are braces.
    ///
    /// # Errors
    /// When a brace has no counterpart, or a name is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let name = (brace == "{").then(|| rest.split_once('}')).flatten();
            let Some((name, after)) = name else {
                return Err(format!(
                    "{text:?} has a single {brace}; write {brace}{brace} if no variable is meant"
                ));
            };
            if !is_name(name) {
                return Err(format!(
                    "{text:?} has {{{name}}}, which is no name of a variable (letters, digits, _ and -); write {{{{ and }}}} for braces"
                ));
            }
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Variable(name.to_owned()));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// The names of its variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text, with each variable's value as `written`.
    pub fn fill(&self, variables: &Variables, written: impl Fn(&str) -> String) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Variable(name) => written(&text_of(variables.get(name))),
            })
            .collect()
    }

    /// As a value: what is nothing but a variable keeps its type.
    fn value(&self, variables: &Variables) -> Value {
        match self.0.as_slice() {
            [Part::Variable(name)] => variables.get(name).cloned().unwrap_or(Value::Null),
            _ => Value::String(self.fill(variables, str::to_owned)),
        }
    }
}

/// Whether `text` can be the name of a variable.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// JSON whose strings are templates.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonTemplate {
    /// Without variables.
    Fixed(Value),
    /// A string with variables.
    Text(Template),
    /// An array.
    Array(Vec<JsonTemplate>),
    /// An object.
    Object(Vec<(String, JsonTemplate)>),
}

impl JsonTemplate {
    /// Reads the strings in `value`.
    ///
    /// # Errors
    /// When one is no template.
    pub fn parse(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => {
                let template = Template::parse(text)?;
                if template.variables().next().is_none() {
                    Self::Fixed(Value::String(
                        template.fill(&Variables::new(), str::to_owned),
                    ))
                } else {
                    Self::Text(template)
                }
            }
            Value::Array(items) => {
                Self::Array(items.iter().map(Self::parse).collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => Self::Object(
                fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), Self::parse(value)?)))
                    .collect::<Result<_, String>>()?,
            ),
            other => Self::Fixed(other.clone()),
        })
    }

    /// The names of its variables.
    pub fn variables(&self) -> Vec<&str> {
        match self {
            Self::Fixed(_) => Vec::new(),
            Self::Text(template) => template.variables().collect(),
            Self::Array(items) => items.iter().flat_map(Self::variables).collect(),
            Self::Object(fields) => fields
                .iter()
                .flat_map(|(_, value)| value.variables())
                .collect(),
        }
    }

    /// The JSON.
    pub fn fill(&self, variables: &Variables) -> Value {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(template) => template.value(variables),
            Self::Array(items) => items.iter().map(|item| item.fill(variables)).collect(),
            Self::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), value.fill(variables)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables() -> Variables {
        [
            ("id", json!(7)),
            ("name", json!("a b")),
            ("list", json!([1, "x"])),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    #[test]
    fn variables_take_their_places() {
        for (text, filled) in [
            ("", ""),
            ("/api", "/api"),
            ("/{id}", "/7"),
            ("{id}{name}", "7a b"),
            ("{{id}}", "{id}"),
            ("a{{{id}}}b", "a{7}b"),
            ("{list}", "[1,\"x\"]"),
            ("{unknown}", ""),
        ] {
            let template = Template::parse(text).expect(text);
            assert_eq!(template.fill(&variables(), str::to_owned), filled, "{text}");
        }
        let template = Template::parse("/{name}").expect("a template");
        assert_eq!(
            template.fill(&variables(), |value| value.replace(' ', "+")),
            "/a+b"
        );
    }

    #[test]
    fn what_is_no_template_is_told() {
        for (text, said) in [
            ("/{id", "single {"),
            ("/id}", "single }"),
            ("/{}", "no name"),
            ("/{a b}", "no name"),
            ("{\"id\": 1}", "no name"),
        ] {
            let error = Template::parse(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_value_keeps_its_type_in_json() {
        let template =
            json!({"a": "{id}", "b": "no. {id}", "c": ["{list}", true, null], "{{d}}": "{{}}"});
        let template = JsonTemplate::parse(&template).expect("a template");
        assert_eq!(template.variables(), ["id", "id", "list"]);
        assert_eq!(
            template.fill(&variables()),
            json!({"a": 7, "b": "no. 7", "c": [[1, "x"], true, null], "{{d}}": "{}"})
        );
    }
}
