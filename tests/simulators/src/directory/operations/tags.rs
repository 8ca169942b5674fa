//! AddTagsToResource, RemoveTagsFromResource, ListTagsForResource. The resource is a directory.

use serde_json::{Value, json};

use super::{Asked, directory_in, page};
use crate::directory::{
    constraint::{Members, Pattern, is_directory_id, is_tag_text},
    exception::Exception,
    world::World,
};

/// Tags that a resource can have.
const TAGS: usize = 50;

const PATTERN: Pattern = ("^([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)$", is_tag_text);

fn resource(world: &World, asked: &Asked<'_>, required: &[&str]) -> Result<String, Exception> {
    let mut members = Members::of(asked.members, "");
    members.require("ResourceId");
    for name in required {
        members.require(name);
    }
    let pattern = ("^[d]-[0-9a-f]{10}$", is_directory_id as fn(&str) -> bool);
    let id = members
        .text("ResourceId", (0, usize::MAX), Some(pattern), false)?
        .unwrap_or_default()
        .to_owned();
    members.finish(&world.settings.constraint_error)?;
    directory_in(world, &id, asked.region)?;
    Ok(id)
}

pub(super) fn add(world: &mut World, asked: &Asked<'_>) -> Result<(), Exception> {
    let id = resource(world, asked, &["Tags"])?;
    let mut added = Vec::new();
    for (index, tag) in Members::of(asked.members, "")
        .list("Tags")?
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let tag = tag
            .as_object()
            .ok_or_else(|| Exception::new("SerializationException", "Tags cannot be read as structures"))?;
        let within = format!("tags.{}.member.", index + 1);
        let mut members = Members::of(tag, &within);
        members.require("Key");
        members.require("Value");
        let key = members
            .text("Key", (1, 128), Some(PATTERN), false)?
            .unwrap_or_default();
        let value = members
            .text("Value", (0, 256), Some(PATTERN), false)?
            .unwrap_or_default();
        members.finish(&world.settings.constraint_error)?;
        reserved(key)?;
        added.push((key.to_owned(), value.to_owned()));
    }
    let Some(directory) = world.directories.get_mut(&id) else {
        return Err(Exception::no_directory(&id));
    };
    let mut tags = directory.tags.clone();
    tags.extend(added);
    if tags.len() > TAGS {
        return Err(Exception::new(
            "TagLimitExceededException",
            format!("A directory can have at most {TAGS} tags."),
        ));
    }
    directory.tags = tags;
    Ok(())
}

fn reserved(key: &str) -> Result<(), Exception> {
    match key.to_ascii_lowercase().starts_with("aws:") {
        true => Err(Exception::invalid("Tag keys that begin with aws: are reserved.")),
        false => Ok(()),
    }
}

pub(super) fn remove(world: &mut World, asked: &Asked<'_>) -> Result<(), Exception> {
    let id = resource(world, asked, &["TagKeys"])?;
    let mut members = Members::of(asked.members, "");
    let fits = |key: &str| (1..=128).contains(&key.chars().count()) && is_tag_text(key);
    let keys = members
        .texts("TagKeys", "Member must have length between 1 and 128", fits)?
        .unwrap_or_default();
    members.finish(&world.settings.constraint_error)?;
    for key in &keys {
        reserved(key)?;
    }
    if let Some(directory) = world.directories.get_mut(&id) {
        directory.tags.retain(|key, _| !keys.contains(key));
    }
    Ok(())
}

pub(super) fn list(world: &mut World, asked: &Asked<'_>) -> Result<Value, Exception> {
    let id = resource(world, asked, &[])?;
    let mut members = Members::of(asked.members, "");
    members.number("Limit", 0, i64::from(i32::MAX))?;
    members.finish(&world.settings.constraint_error)?;
    let directory = directory_in(world, &id, asked.region)?;
    let tags = directory
        .tags
        .iter()
        .map(|(key, value)| (key.clone(), json!({"Key": key, "Value": value})));
    let page = page(
        tags,
        "ListTagsForResource",
        asked.members,
        world.settings.page_size,
    )?;
    let mut answer = json!({"Tags": page.entries});
    if let (Some(next), Some(answer)) = (page.next, answer.as_object_mut()) {
        answer.insert("NextToken".to_owned(), Value::String(next));
    }
    Ok(answer)
}
