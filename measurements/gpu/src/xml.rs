//! XML as RIMs use it, and its canonical form (C14N 1.1, W3C recommendation of 2008, without comments, inclusive).
//!
//! What RIMs have no need of is refused before it has a meaning: document types, processing instructions, comments, CDATA, `xml:`
//! attributes. What is left has one tree, and values are read from the same tree that was made canonical.

use roxmltree::{Attribute, Document, Node, NodeId, ParsingOptions};

use crate::{XmlError, limits};

/// The text, if it can be parsed by [`parse`].
pub(super) fn text(bytes: &[u8]) -> Result<&str, XmlError> {
    let max = limits::GPU_RIM_BYTES_MAX;
    if bytes.len() > max {
        let got = bytes.len();
        return Err(XmlError::TooLong { got, max });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::NotUtf8)?;
    let text = without_declaration(text)?;
    if text.contains("<!") {
        let what = "document type, comment or CDATA section";
        return Err(XmlError::Forbidden { what });
    }
    if text.contains("<?") {
        let what = "processing instruction";
        return Err(XmlError::Forbidden { what });
    }
    // Every element carries the namespaces above it, so many declarations cost far more than their length.
    if text.matches("xmlns").count() > limits::GPU_RIM_NAMESPACES_MAX {
        let what = "great number of namespaces";
        return Err(XmlError::Forbidden { what });
    }
    Ok(text)
}

/// The tree of what [`text`] let through.
pub(super) fn parse(text: &str) -> Result<Document<'_>, XmlError> {
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: limits::GPU_RIM_NODES_MAX,
        ..ParsingOptions::default()
    };
    let document =
        Document::parse_with_options(text, options).map_err(|error| XmlError::Malformed {
            detail: error.to_string(),
        })?;
    let special = |attribute: Attribute<'_, '_>| attribute.namespace() == Some(XML_NAMESPACE);
    if document
        .descendants()
        .any(|node| node.attributes().any(special))
    {
        let what = "`xml:` attribute";
        return Err(XmlError::Forbidden { what });
    }
    Ok(document)
}

/// C14N 1.1 of an element and what is in it, without the element `left_out`. Namespaces that hold at `apex` from above are written
/// there. `None` where elements are nested too deep.
pub(super) fn canonical(apex: Node<'_, '_>, left_out: Option<NodeId>) -> Option<String> {
    let mut out = String::new();
    element(&mut out, apex, None, left_out, limits::GPU_RIM_DEPTH_MAX)?;
    Some(out)
}

fn element(
    out: &mut String,
    node: Node<'_, '_>,
    parent: Option<Node<'_, '_>>,
    left_out: Option<NodeId>,
    levels: usize,
) -> Option<()> {
    let deeper = levels.checked_sub(1)?;
    let name = qualified_name(node)?;
    out.push('<');
    out.push_str(name);
    namespaces(out, node, parent);
    attributes(out, node)?;
    out.push('>');
    for child in node.children() {
        if child.is_text() {
            escape(out, child.text()?, TEXT);
        } else if Some(child.id()) != left_out {
            element(out, child, Some(node), left_out, deeper)?;
        }
    }
    out.push_str("</");
    out.push_str(name);
    out.push('>');
    Some(())
}

/// Namespaces that hold here and did not hold with the same value in the parent, the default first, then by prefix (C14N 1.1, 2.3).
fn namespaces(out: &mut String, node: Node<'_, '_>, parent: Option<Node<'_, '_>>) {
    let of = |node: Node<'_, '_>, prefix: &str| {
        let mut all = node.namespaces();
        let found = all.find(|namespace| namespace.name().unwrap_or("") == prefix);
        found.map(|namespace| namespace.uri().to_owned())
    };
    let mut fresh: Vec<(&str, String)> = Vec::new();
    for namespace in node.namespaces() {
        let prefix = namespace.name().unwrap_or("");
        let uri = namespace.uri();
        let inherited = parent.and_then(|parent| of(parent, prefix));
        // An empty default where there was none before is not written.
        let same = inherited.as_deref().unwrap_or("") == uri;
        if !same && namespace.uri() != XML_NAMESPACE {
            fresh.push((prefix, uri.to_owned()));
        }
    }
    fresh.sort();
    for (prefix, uri) in fresh {
        out.push_str(if prefix.is_empty() {
            " xmlns"
        } else {
            " xmlns:"
        });
        out.push_str(prefix);
        out.push_str("=\"");
        escape(out, &uri, ATTRIBUTE);
        out.push('"');
    }
}

/// By namespace, then by local name; those without a namespace first.
fn attributes(out: &mut String, node: Node<'_, '_>) -> Option<()> {
    let mut sorted: Vec<_> = node.attributes().collect();
    sorted.sort_by_key(|attribute| (attribute.namespace().unwrap_or(""), attribute.name()));
    for attribute in sorted {
        let source = node.document().input_text().get(attribute.range())?;
        let end = source.find(|c: char| c == '=' || c.is_ascii_whitespace())?;
        out.push(' ');
        out.push_str(source.get(..end)?);
        out.push_str("=\"");
        escape(out, attribute.value(), ATTRIBUTE);
        out.push('"');
    }
    Some(())
}

/// The name with the prefix that the text gives it, which the canonical form keeps.
fn qualified_name<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    let source = node.document().input_text().get(node.range())?;
    let source = source.strip_prefix('<')?;
    let end = source.find(|c: char| c == '>' || c == '/' || c.is_ascii_whitespace())?;
    source.get(..end)
}

fn escape(out: &mut String, text: &str, special: &[(char, &str)]) {
    for c in text.chars() {
        match special.iter().find(|(from, _)| *from == c) {
            Some((_, to)) => out.push_str(to),
            None => out.push(c),
        }
    }
}

/// The text after its XML declaration, of which only version 1.0 and UTF-8 are understood.
fn without_declaration(text: &str) -> Result<&str, XmlError> {
    let Some(inside) = text.strip_prefix("<?xml ") else {
        return Ok(text);
    };
    let wrong = XmlError::Forbidden {
        what: "declaration other than version 1.0 in UTF-8",
    };
    let Some((declaration, rest)) = inside.split_once("?>") else {
        return Err(wrong);
    };
    let plain = declaration.replace('\'', "\"").to_ascii_lowercase();
    match DECLARATIONS.contains(&plain.trim_ascii()) {
        true => Ok(rest),
        false => Err(wrong),
    }
}

const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";
const DECLARATIONS: &[&str] = &[
    "version=\"1.0\"",
    "version=\"1.0\" encoding=\"utf-8\"",
    "version=\"1.0\" encoding=\"utf-8\" standalone=\"no\"",
    "version=\"1.0\" encoding=\"utf-8\" standalone=\"yes\"",
];
/// C14N 1.1, 2.3: what text nodes and attribute values escape.
const TEXT: &[(char, &str)] = &[
    ('&', "&amp;"),
    ('<', "&lt;"),
    ('>', "&gt;"),
    ('\r', "&#xD;"),
];
const ATTRIBUTE: &[(char, &str)] = &[
    ('&', "&amp;"),
    ('<', "&lt;"),
    ('"', "&quot;"),
    ('\t', "&#x9;"),
    ('\n', "&#xA;"),
    ('\r', "&#xD;"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        let document = parse(text(input.as_bytes()).unwrap()).unwrap();
        assert_eq!(canonical(document.root_element(), None).unwrap(), expected);
    }

    #[test]
    fn the_canonical_form_is_as_the_recommendation_says() {
        check("<a/>", "<a></a>");
        check(
            "<?xml version=\"1.0\" encoding='UTF-8'?>\n<a\n b = 'c' />\n",
            "<a b=\"c\"></a>",
        );
        check("<a z='1' y=\"2\"/>", "<a y=\"2\" z=\"1\"></a>");
        // 3.3: namespaces before attributes, attributes by namespace and not by prefix.
        check(
            "<e attr=\"v\" xmlns:b=\"http://z\" xmlns:a=\"http://y\" xmlns=\"http://x\" b:attr=\"2\" a:attr=\"1\"/>",
            "<e xmlns=\"http://x\" xmlns:a=\"http://y\" xmlns:b=\"http://z\" attr=\"v\" a:attr=\"1\" b:attr=\"2\"></e>",
        );
        // A namespace said again is not written again; one that is taken back is.
        check(
            "<e xmlns=\"u\"><f xmlns=\"u\"/><g xmlns=\"\"><h xmlns=\"\"/></g></e>",
            "<e xmlns=\"u\"><f></f><g xmlns=\"\"><h></h></g></e>",
        );
        check("<e xmlns=\"\"/>", "<e></e>");
        // 3.4: character references, line ends, quotes.
        check(
            "<e a='&lt;&quot;&#x9;&#10;&#13; &#39;'>&#38;&gt;\"&#13;\r\n</e>",
            "<e a=\"&lt;&quot;&#x9;&#xA;&#xD; '\">&amp;&gt;\"&#xD;\n</e>",
        );
        check("<e a='x\n\ty'/>", "<e a=\"x  y\"></e>");
    }

    #[test]
    fn an_apex_takes_the_namespaces_above_it_along() {
        let document = parse("<a xmlns='u' xmlns:n='v'><n:b c='d'/> </a>").unwrap();
        let inner = document.root_element().first_element_child().unwrap();
        let expected = "<n:b xmlns=\"u\" xmlns:n=\"v\" c=\"d\"></n:b>";
        assert_eq!(canonical(inner, None).unwrap(), expected);
        let left_out = canonical(document.root_element(), Some(inner.id())).unwrap();
        assert_eq!(left_out, "<a xmlns=\"u\" xmlns:n=\"v\"> </a>");
    }

    #[test]
    fn what_no_rim_needs_is_refused() {
        for wrong in [
            "<!DOCTYPE a><a/>",
            "<a><!-- b --></a>",
            "<a><![CDATA[b]]></a>",
            "<a><?b c?></a>",
            "<?b c?><a/>",
            "<?xml version=\"1.1\"?><a/>",
            "<?xml version=\"1.0\" encoding=\"latin1\"?><a/>",
            "<?xml version=\"1.0\"",
            " <?xml version=\"1.0\"?><a/>",
        ] {
            let refused = text(wrong.as_bytes());
            assert!(
                matches!(refused, Err(XmlError::Forbidden { .. })),
                "{wrong}"
            );
        }
        assert_eq!(text(b"<a>\xff</a>"), Err(XmlError::NotUtf8));
        for wrong in ["<a xml:lang='en'/>", "<a><b xml:space='preserve'/></a>"] {
            assert!(
                matches!(parse(wrong), Err(XmlError::Forbidden { .. })),
                "{wrong}"
            );
        }
        for wrong in [
            "",
            "<a>",
            "<a/><b/>",
            "<a b='1' b='2'/>",
            "<a>&undefined;</a>",
            "a<a/>",
        ] {
            assert!(
                matches!(parse(wrong), Err(XmlError::Malformed { .. })),
                "{wrong}"
            );
        }
        let deep = format!("{}{}", "<a>".repeat(40), "</a>".repeat(40));
        assert_eq!(canonical(parse(&deep).unwrap().root_element(), None), None);
    }
}
