//! Where JSON does not fit the type that is asked for: after a deploy has changed a type, that is what people want to know.

/// ``, at field `name` ``: the last field that begins before the place that the error names; nothing if there is none, or if the error
/// names the field itself.
pub(crate) fn at_field(json: &[u8], error: &serde_json::Error) -> String {
    match field_before(json, error.column()) {
        Some(name) if !error.to_string().contains(" field `") => format!(", at field `{name}`"),
        _ => String::new(),
    }
}

/// The name of the last field that begins before a column of one line of JSON.
fn field_before(json: &[u8], column: usize) -> Option<String> {
    let text = std::str::from_utf8(json.get(..column.min(json.len()))?).ok()?;
    let end = text.rfind("\":")?;
    let start = text[..end].rfind('"')? + 1;
    Some(text[start..end].to_owned())
}
