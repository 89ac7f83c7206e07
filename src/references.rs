//! The targets of a schema's references, by the rules of the validator.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error;

use referencing::{Draft, Registry, Retrieve, Uri, uri};
use serde_json::Value;

/// The keywords that refer to another part.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// A schema, and the target of each of its references: by JSON pointer, percent-encoded or not, by anchor, `$id` or absolute URI, in
/// every draft.
#[derive(Debug)]
pub(crate) struct References {
    /// Boxed, so that no part of it ever moves.
    root: Box<Value>,
    /// By the address of a part: the pointers of the parts that it refers to, with the keywords.
    targets: HashMap<usize, Vec<(&'static str, String)>>,
    /// The references without a target. `None` where they cannot be determined.
    dangling: Option<BTreeSet<String>>,
    is_endless: bool,
}

impl References {
    /// Follows all references of a schema. The compiler refuses one without a target, or with one outside of the document.
    pub(crate) fn of(schema: Value) -> Self {
        let root = Box::new(schema);
        // Most schemas have no references.
        let followed = if refers(&root) { follow(&root) } else { Some(Followed::default()) };
        let dangling = followed.as_ref().map(|followed| followed.dangling.clone());
        let followed = followed.unwrap_or_default();
        let wanted = followed.targets.values().flatten().map(|(_, target)| *target).collect();
        let pointers = pointers(&root, &wanted);
        let pointer = |(keyword, target): &(&'static str, usize)| Some((*keyword, pointers.get(target)?.clone()));
        let targets = followed.targets.into_iter();
        let targets = targets.map(|(part, targets)| (part, targets.iter().filter_map(pointer).collect())).collect();
        Self { root, targets, dangling, is_endless: followed.is_endless }
    }

    /// The whole schema.
    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// Says whether a reference has no target here, but has one in `other`.
    pub(crate) fn lacks_what_is_in(&self, other: &Self) -> bool {
        match (&self.dangling, &other.dangling) {
            (Some(here), Some(there)) => here.difference(there).next().is_some(),
            (here, there) => here.is_none() && there.is_some(),
        }
    }

    /// The pointers of the parts that refer to the whole schema, each with the keyword by which it does.
    pub(crate) fn to_root(&self) -> Vec<(String, &'static str)> {
        let mut found = Vec::new();
        let to_root = self.targets.iter().filter(|(_, targets)| targets.iter().any(|(_, to)| to.is_empty()));
        let wanted = to_root.map(|(part, _)| *part).collect();
        for (part, pointer) in pointers(&self.root, &wanted) {
            let targets = self.targets.get(&part).into_iter().flatten();
            found.extend(targets.filter(|(_, to)| to.is_empty()).map(|(keyword, _)| (pointer.clone(), *keyword)));
        }
        found
    }

    /// Says whether a part refers back to itself for the same value: a validation by it would not end.
    pub(crate) fn is_endless(&self) -> bool {
        self.is_endless
    }

    /// Returns the targets of a part of the schema.
    pub(crate) fn targets(&self, part: &Value) -> impl Iterator<Item = &Value> {
        let pointers = self.targets.get(&address(part)).into_iter().flatten();
        pointers.filter_map(|(_, pointer)| self.root.pointer(pointer))
    }

    /// Returns the target of a part of the schema by this keyword.
    pub(crate) fn target_by(&self, keyword: &str, part: &Value) -> Option<&Value> {
        let targets = self.targets.get(&address(part))?;
        self.root.pointer(&targets.iter().find(|(by, _)| *by == keyword)?.1)
    }

    /// Returns a part, and all other parts that apply to the same value: the targets of its references, and its alternatives.
    pub(crate) fn views<'a>(&'a self, part: &'a Value) -> Vec<&'a Value> {
        const MAX_VIEWS: usize = 64;
        let mut views = vec![part];
        let mut next = 0;
        while let Some(view) = views.get(next).copied() {
            next += 1;
            let alternatives =
                ["allOf", "anyOf", "oneOf"].iter().filter_map(|keyword| view.get(keyword)?.as_array()).flatten();
            for more in self.targets(view).chain(alternatives) {
                if views.len() < MAX_VIEWS && !views.iter().any(|seen| std::ptr::eq(*seen, more)) {
                    views.push(more);
                }
            }
        }
        views
    }
}

fn address(part: &Value) -> usize {
    std::ptr::from_ref(part) as usize
}

/// Says whether the schema has any reference.
fn refers(root: &Value) -> bool {
    let mut left = vec![root];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(entries) if REFERENCES.iter().any(|keyword| entries.contains_key(*keyword)) => return true,
            Value::Object(entries) => left.extend(entries.values()),
            _ => {}
        }
    }
    false
}

#[derive(Default)]
struct Followed {
    /// By the address of the part that refers.
    targets: HashMap<usize, Vec<(&'static str, usize)>>,
    dangling: BTreeSet<String>,
    is_endless: bool,
}

/// An external document: it is never fetched, and the references inside of this document are still followed.
struct Elsewhere;

impl Retrieve for Elsewhere {
    fn retrieve(&self, _: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        Ok(Value::Bool(true))
    }
}

/// Looks up the targets of each part of the schema. Parts are the places where the draft has a schema, and the targets of references; an
/// object with a `$ref` in an `enum` is none.
fn follow(root: &Value) -> Option<Followed> {
    let draft = Draft::default().detect(root);
    let resource = draft.create_resource_ref(root);
    let base = uri::from_str(resource.id().unwrap_or_default()).ok()?;
    let registry =
        Registry::new().draft(draft).retriever(Elsewhere).add(base.as_str(), resource).ok()?.prepare().ok()?;
    let mut dangling = BTreeSet::new();
    let mut parts = HashMap::new();
    let mut targets: HashMap<usize, Vec<(&'static str, &Value)>> = HashMap::new();
    let mut left = vec![(root, registry.resolver(base), draft)];
    while let Some((part, resolver, draft)) = left.pop() {
        if parts.insert(address(part), part).is_some() {
            continue;
        }
        for (keyword, reference) in
            REFERENCES.iter().filter_map(|keyword| Some((*keyword, part.get(keyword)?.as_str()?)))
        {
            let Ok(found) = resolver.lookup(reference) else {
                dangling.insert(reference.to_owned());
                continue;
            };
            targets.entry(address(part)).or_default().push((keyword, found.contents()));
            left.push(found.into_inner());
        }
        for below in draft.subresources_of(part) {
            let draft = draft.detect(below);
            if let Ok(resolver) = resolver.in_subresource(draft.create_resource_ref(below)) {
                left.push((below, resolver, draft));
            }
        }
    }
    let is_endless = leads_back(&parts, &targets);
    let addresses = |targets: Vec<(&'static str, &Value)>| {
        targets.into_iter().map(|(keyword, target)| (keyword, address(target))).collect()
    };
    let targets = targets.into_iter().map(|(part, targets)| (part, addresses(targets))).collect();
    Some(Followed { targets, dangling, is_endless })
}

/// The JSON pointers of these parts of the document.
fn pointers(root: &Value, wanted: &HashSet<usize>) -> HashMap<usize, String> {
    let mut pointers = HashMap::new();
    let mut left = if wanted.is_empty() { Vec::new() } else { vec![(root, String::new())] };
    while let Some((value, pointer)) = left.pop() {
        match value {
            Value::Array(items) => {
                left.extend(items.iter().enumerate().map(|(index, item)| (item, format!("{pointer}/{index}"))));
            }
            Value::Object(entries) => left.extend(entries.iter().map(|(name, entry)| {
                let name = name.replace('~', "~0").replace('/', "~1");
                (entry, format!("{pointer}/{name}"))
            })),
            _ => {}
        }
        if wanted.contains(&address(value)) {
            pointers.insert(address(value), pointer);
        }
    }
    pointers
}

/// Says whether a part refers back to itself by parts that apply to the same value.
fn leads_back(parts: &HashMap<usize, &Value>, targets: &HashMap<usize, Vec<(&'static str, &Value)>>) -> bool {
    #[derive(PartialEq)]
    enum Seen {
        OnTheWay,
        Done,
    }
    let mut seen: HashMap<usize, Seen> = HashMap::new();
    for start in parts.values() {
        let mut way = vec![(*start, false)];
        while let Some((part, is_left)) = way.pop() {
            let key = address(part);
            if is_left {
                seen.insert(key, Seen::Done);
                continue;
            }
            match seen.get(&key) {
                Some(Seen::OnTheWay) => return true,
                Some(Seen::Done) => continue,
                None => {}
            }
            seen.insert(key, Seen::OnTheWay);
            way.push((part, true));
            way.extend(of_the_same_value(part).map(|next| (next, false)));
            way.extend(targets.get(&key).into_iter().flatten().map(|(_, next)| (*next, false)));
        }
    }
    false
}

/// Returns the subschemas of a part that apply to the same value, without references.
fn of_the_same_value(part: &Value) -> impl Iterator<Item = &Value> {
    let keywords = part.as_object().into_iter().flatten();
    keywords.flat_map(|(keyword, value)| -> Vec<&Value> {
        match (keyword.as_str(), value) {
            ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => all.iter().collect(),
            ("dependentSchemas" | "dependencies", Value::Object(all)) => all.values().collect(),
            ("if" | "then" | "else" | "not", one) => vec![one],
            _ => Vec::new(),
        }
    })
}
