//! Bounds and patterns of the service's model (API version 2015-04-16). Clients check few of them, so the service does.

use serde_json::{Map, Value};

use super::exception::Exception;

/// A pattern as the model writes it, and a function that is the same.
pub(crate) type Pattern = (&'static str, fn(&str) -> bool);

/// Reads the members of a request and collects what is out of bounds, to say all of it at once as the service does.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    members: &'a Map<String, Value>,
    within: &'a str,
    found: Vec<String>,
}

impl<'a> Members<'a> {
    /// `within` is the path before a member's name in messages: empty or `radiusSettings.`.
    pub(crate) fn of(members: &'a Map<String, Value>, within: &'a str) -> Self {
        Self {
            members,
            within,
            found: Vec::new(),
        }
    }

    /// Ends with everything that was found, as one exception of the given name.
    pub(crate) fn finish(self, exception: &str) -> Result<(), Exception> {
        if self.found.is_empty() {
            return Ok(());
        }
        let (count, errors) = match self.found.len() {
            1 => (1, "error"),
            many => (many, "errors"),
        };
        let what = self.found.join("; ");
        Err(Exception::new(
            exception,
            format!("{count} validation {errors} detected: {what}"),
        ))
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn broke(&mut self, name: &str, shown: &str, rule: &str) {
        let member = lower_first(name);
        self.found.push(format!(
            "Value '{shown}' at '{}{member}' failed to satisfy constraint: {rule}",
            self.within
        ));
    }

    /// Says that a required member is missing.
    pub(crate) fn require(&mut self, name: &str) {
        if self.value(name).is_none() {
            let member = lower_first(name);
            let within = self.within;
            self.found.push(format!(
                "Value null at '{within}{member}' failed to satisfy constraint: Member must not be null"
            ));
        }
    }

    /// A string of bounded length (in characters) whose text pleases `pattern`; secrets are not shown.
    pub(crate) fn text(
        &mut self,
        name: &str,
        length: (usize, usize),
        pattern: Option<Pattern>,
        secret: bool,
    ) -> Result<Option<&'a str>, Exception> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let text = value.as_str().ok_or_else(|| not_a(name, "string"))?;
        let shown = if secret { "***" } else { text };
        let count = text.chars().count();
        if count < length.0 {
            self.broke(
                name,
                shown,
                &format!("Member must have length greater than or equal to {}", length.0),
            );
        }
        if count > length.1 {
            self.broke(
                name,
                shown,
                &format!("Member must have length less than or equal to {}", length.1),
            );
        }
        if let Some((pattern, pleases)) = pattern
            && !pleases(text)
        {
            self.broke(
                name,
                shown,
                &format!("Member must satisfy regular expression pattern: {pattern}"),
            );
        }
        Ok(Some(text))
    }

    /// One of a set of words.
    pub(crate) fn word(&mut self, name: &str, words: &[&str]) -> Result<Option<&'a str>, Exception> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let text = value.as_str().ok_or_else(|| not_a(name, "string"))?;
        if !words.contains(&text) {
            self.broke(
                name,
                text,
                &format!("Member must satisfy enum value set: [{}]", words.join(", ")),
            );
        }
        Ok(Some(text))
    }

    /// A whole number between two bounds.
    pub(crate) fn number(&mut self, name: &str, from: i64, to: i64) -> Result<Option<i64>, Exception> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let number = value.as_i64().ok_or_else(|| not_a(name, "number"))?;
        if number < from {
            self.broke(
                name,
                &number.to_string(),
                &format!("Member must have value greater than or equal to {from}"),
            );
        }
        if number > to {
            self.broke(
                name,
                &number.to_string(),
                &format!("Member must have value less than or equal to {to}"),
            );
        }
        Ok(Some(number))
    }

    /// A yes or no.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Exception> {
        self.value(name)
            .map(|value| value.as_bool().ok_or_else(|| not_a(name, "boolean")))
            .transpose()
    }

    /// A structure.
    pub(crate) fn structure(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, Exception> {
        self.value(name)
            .map(|value| value.as_object().ok_or_else(|| not_a(name, "structure")))
            .transpose()
    }

    /// A list of anything.
    pub(crate) fn list(&self, name: &str) -> Result<Option<&'a [Value]>, Exception> {
        self.value(name)
            .map(|value| {
                value
                    .as_array()
                    .map(Vec::as_slice)
                    .ok_or_else(|| not_a(name, "list"))
            })
            .transpose()
    }

    /// A list of strings, each of which pleases a rule.
    pub(crate) fn texts(
        &mut self,
        name: &str,
        rule: &str,
        pleases: impl Fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>, Exception> {
        let Some(list) = self.list(name)? else {
            return Ok(None);
        };
        let texts: Vec<String> = list
            .iter()
            .map(|value| {
                value
                    .as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| not_a(name, "list of strings"))
            })
            .collect::<Result<_, _>>()?;
        if !texts.iter().all(|text| pleases(text)) {
            self.broke(
                name,
                &format!("[{}]", texts.join(", ")),
                &format!("Member must satisfy constraint: [{rule}]"),
            );
        }
        Ok(Some(texts))
    }
}

fn not_a(name: &str, kind: &str) -> Exception {
    Exception::new(
        "SerializationException",
        format!("{name} cannot be read as {kind}"),
    )
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map(|first| first.to_ascii_lowercase())
        .into_iter()
        .chain(letters)
        .collect()
}

fn id_of(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| {
        rest.len() == 10
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// `^d-[0-9a-f]{10}$`
pub(crate) fn is_directory_id(text: &str) -> bool {
    id_of(text, "d-")
}

/// `^dc-[0-9a-f]{10}$`
pub(crate) fn is_controller_id(text: &str) -> bool {
    id_of(text, "dc-")
}

/// `^(\p{LD}|\p{Punct}| )+$`: letters, digits, ASCII punctuation and the space.
pub(crate) fn is_shared_secret(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|letter| letter.is_alphanumeric() || letter.is_ascii_punctuation() || letter == ' ')
}

/// `^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`
pub(crate) fn is_tag_text(text: &str) -> bool {
    text.chars().all(|letter| {
        letter.is_alphanumeric()
            || "_.:/=+-@".contains(letter)
            || (letter.is_whitespace() && !letter.is_control())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_breach_is_named_in_one_exception() {
        let request = json!({"RadiusPort": 80, "RadiusTimeout": 51});
        let mut members = Members::of(request.as_object().unwrap(), "radiusSettings.");
        members.number("RadiusPort", 1025, 65_535).unwrap();
        members.number("RadiusTimeout", 1, 50).unwrap();
        let exception = members.finish("ValidationException").unwrap_err();
        assert_eq!(
            exception.message,
            "2 validation errors detected: Value '80' at 'radiusSettings.radiusPort' failed to satisfy constraint: \
             Member must have value greater than or equal to 1025; Value '51' at 'radiusSettings.radiusTimeout' failed \
             to satisfy constraint: Member must have value less than or equal to 50"
        );
    }

    #[test]
    fn ids_have_ten_small_hex_digits() {
        assert!(is_directory_id("d-0123456789"));
        for wrong in [
            "d-012345678",
            "d-01234567890",
            "d-012345678A",
            "x-0123456789",
            "d-012345678g",
        ] {
            assert!(!is_directory_id(wrong), "{wrong}");
        }
        assert!(is_controller_id("dc-abcdef0123"));
    }

    #[test]
    fn a_secret_may_hold_spaces_and_punctuation_but_no_control_characters() {
        assert!(is_shared_secret("correct horse, battery-staple! ü9"));
        assert!(!is_shared_secret("tab\there"));
        assert!(!is_shared_secret("line\nhere"));
    }
}
