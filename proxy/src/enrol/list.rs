//! Lists of users as directories and spreadsheets write them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use proxy_config::{CaseRule, UserNameRule};

const MAX_USERS: usize = 1_000_000;
/// How the proxies tell users apart unless their settings say otherwise.
const RULE: UserNameRule = UserNameRule {
    strip_domain: true,
    case: CaseRule::Lower,
    max_bytes: 128,
};
/// Columns with the name that people log in with, the best first, without spaces and in small letters.
const LOGIN_NAMES: [&str; 27] = [
    "samaccountname",
    "onpremisessamaccountname",
    "userlogonname(prewindows2000)",
    "user",
    "username",
    "userid",
    "uid",
    "login",
    "loginname",
    "logonname",
    "userlogonname",
    "loginid",
    "logonid",
    "account",
    "accountname",
    "benutzername",
    "anmeldename",
    "identifiant",
    "usuario",
    "userprincipalname",
    "upn",
    "primaryemail",
    "email",
    "emailaddress",
    "mail",
    "name",
    "users",
];
/// Other columns of such lists: a first line with one of them is a header, too.
const OTHER_COLUMNS: [&str; 14] = [
    "displayname",
    "fullname",
    "givenname",
    "firstname",
    "surname",
    "lastname",
    "distinguishedname",
    "department",
    "enabled",
    "objectclass",
    "objectguid",
    "sid",
    "title",
    "cn",
];

/// A user of a list, and the line that names them.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    line: u64,
    user: String,
}

/// The column with the users.
#[derive(Clone, Copy, Default)]
struct Column {
    place: usize,
    /// A directory's `Name` is what people are called; other lists mean login names by it.
    may_be_of_display_names: bool,
}

/// Reads the users of a list: CSV with commas, semicolons or tabs, with a header line or with the user in the first
/// column, in UTF-8 or, as PowerShell writes it, in UTF-16.
///
/// # Errors
/// What cannot be understood, with its line and what to do about it.
pub(super) fn read(file: &[u8]) -> Result<Vec<String>, String> {
    let text = decode(file)?;
    let (first_line, text, delimiter) = dialect(&text);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .delimiter(delimiter)
        .from_reader(text.as_bytes());
    let mut column: Option<Column> = None;
    let mut listed: Vec<Listed> = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| error.to_string())?;
        let line = first_line + line_of(&row, text);
        if row.iter().all(str::is_empty) || is_underline(&row, line)? {
            continue;
        }
        let Some(column) = column else {
            let header = header(&row, line)?;
            if header.is_none() {
                listed.push(first_row(&row, line)?);
            }
            column = Some(header.unwrap_or_default());
            continue;
        };
        if listed.len() >= MAX_USERS {
            return Err(wrong(
                line,
                format!("is beyond the {MAX_USERS} users of a list; split it"),
            ));
        }
        let user = row.get(column.place).unwrap_or_default().to_owned();
        if user.is_empty() {
            let place = column.place + 1;
            return Err(wrong(
                line,
                format!("has no user in column {place}; fill it in, or remove the line"),
            ));
        }
        if column.may_be_of_display_names && user.contains(char::is_whitespace) {
            return Err(wrong(
                line,
                format!(
                    "has {user:?}, which is no login name; export SamAccountName or UserPrincipalName as well"
                ),
            ));
        }
        listed.push(Listed { line, user });
    }
    no_user_twice(&listed)?;
    Ok(listed.into_iter().map(|listed| listed.user).collect())
}

/// The line that a row begins at. The reader's own position is before the empty lines and comments that it passes over.
fn line_of(row: &csv::StringRecord, text: &str) -> u64 {
    let Some(position) = row.position() else { return 0 };
    let from = usize::try_from(position.byte()).unwrap_or_default();
    let passed_over = text.get(from..).unwrap_or_default().lines();
    let passed_over = passed_over.take_while(|line| line.is_empty() || line.starts_with('#'));
    position.line() + u64::try_from(passed_over.count()).unwrap_or_default()
}

fn wrong(line: u64, what: impl std::fmt::Display) -> String {
    format!("line {line} {what}")
}

/// UTF-8 or UTF-16, with a byte order mark or without.
fn decode(file: &[u8]) -> Result<String, String> {
    let units = |from_bytes: fn([u8; 2]) -> u16| {
        let pairs = file.chunks_exact(2);
        let units = pairs.filter_map(|pair| Some(from_bytes([*pair.first()?, *pair.get(1)?])));
        String::from_utf16_lossy(&units.collect::<Vec<_>>())
    };
    let text = match file {
        [0xff, 0xfe, ..] | [1..=255, 0, 1..=255, 0, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] | [0, 1..=255, 0, 1..=255, ..] => units(u16::from_be_bytes),
        _ => {
            let text = std::str::from_utf8(file).map_err(|error| {
                let before = file.get(..error.valid_up_to()).unwrap_or_default();
                let breaks = before.iter().filter(|byte| **byte == b'\n').count();
                let line = u64::try_from(breaks).unwrap_or_default() + 1;
                wrong(
                    line,
                    "is not UTF-8 text; save the list as UTF-8 (PowerShell: Export-Csv -Encoding utf8)",
                )
            })?;
            text.to_owned()
        }
    };
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// How many lines are passed over at the beginning, the rest, and what separates its columns.
fn dialect(text: &str) -> (u64, &str, u8) {
    // Excel says it in a line of its own.
    if let Some((first, rest)) = text.split_once('\n')
        && let Some(separator) = excel_separator(first)
    {
        return (1, rest, separator);
    }
    let first = text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .unwrap_or_default();
    let outside_quotes: Vec<u8> = first.split('"').step_by(2).flat_map(str::bytes).collect();
    let count = |separator: u8| outside_quotes.iter().filter(|byte| **byte == separator).count();
    // Of as many the last: a comma may stand in a name.
    let separator = [b',', b'|', b';', b'\t']
        .into_iter()
        .max_by_key(|separator| count(*separator));
    (0, text, separator.unwrap_or(b','))
}

/// The character of `sep=;`, in any case, in quotes or not.
fn excel_separator(line: &str) -> Option<u8> {
    let line = line.trim_end_matches('\r');
    let line = line
        .strip_prefix('"')
        .and_then(|line| line.strip_suffix('"'))
        .unwrap_or(line);
    let (head, separator) = line.split_at_checked("sep=".len())?;
    match separator.as_bytes() {
        [separator] if head.eq_ignore_ascii_case("sep=") => Some(*separator),
        _ => None,
    }
}

/// The line under the header of a table that is made to be looked at. One of several columns cannot be taken apart.
fn is_underline(row: &csv::StringRecord, line: u64) -> Result<bool, String> {
    let is_underline = row
        .iter()
        .all(|cell| cell.starts_with("---") && cell.bytes().all(|b| matches!(b, b'-' | b' ')));
    if is_underline && row.iter().any(|cell| cell.contains(' ')) {
        return Err(wrong(
            line,
            "is of a table for people to read; export it: Get-ADUser … | Select-Object SamAccountName | Export-Csv -NoTypeInformation",
        ));
    }
    Ok(is_underline)
}

/// The column with the login names, when the row is a header.
fn header(row: &csv::StringRecord, line: u64) -> Result<Option<Column>, String> {
    let names: Vec<String> = row
        .iter()
        .map(|cell| {
            // Google Workspace marks columns: "Email Address [Required]".
            let name = cell.split_once(" [").map_or(cell, |(name, _)| name);
            let kept = name.chars().filter(|c| !matches!(c, ' ' | '_' | '-'));
            kept.collect::<String>().to_lowercase()
        })
        .collect();
    let column = LOGIN_NAMES.iter().find_map(|known| {
        let place = names.iter().position(|name| name == known)?;
        let may_be_of_display_names = *known == "name";
        Some(Column {
            place,
            may_be_of_display_names,
        })
    });
    if column.is_none() && names.iter().any(|name| OTHER_COLUMNS.contains(&name.as_str())) {
        return Err(wrong(
            line,
            "is a header without a column of login names; export SamAccountName or UserPrincipalName as well",
        ));
    }
    Ok(column)
}

/// The user of the first row, when it is no header.
fn first_row(row: &csv::StringRecord, line: u64) -> Result<Listed, String> {
    let user = row.get(0).unwrap_or_default().to_owned();
    let is_name = !user.is_empty() && (row.len() == 1 || !user.contains(char::is_whitespace));
    if !is_name {
        return Err(wrong(
            line,
            format!(
                "has {user:?} in its first column, which is no login name; put a header above it that names the column \
                 (SamAccountName, UserPrincipalName or user)"
            ),
        ));
    }
    Ok(Listed { line, user })
}

/// Neither a distinguished name, nor several names in one line, nor what another program wrote around a list.
fn can_be_login_name(user: &str) -> bool {
    !user.contains(['=', ',', ';', '"', '<', '>', '*', '?', '[', ']'])
        && !user.contains("  ")
        && !user.contains("\\\\")
}

fn no_user_twice(listed: &[Listed]) -> Result<(), String> {
    let mut seen: HashMap<String, &Listed> = HashMap::with_capacity(listed.len());
    for each in listed {
        let (line, user) = (each.line, &each.user);
        super::check_name(user).map_err(|problem| wrong(line, problem))?;
        if !can_be_login_name(user) {
            return Err(wrong(
                line,
                format!("has {user:?}, which is no login name; write SamAccountName or UserPrincipalName"),
            ));
        }
        let name = RULE.normalise(user).ok_or_else(|| {
            wrong(
                line,
                format!("has {user:?}, which is no user name: empty, or longer than 128 bytes"),
            )
        })?;
        match seen.entry(name) {
            Entry::Vacant(place) => {
                place.insert(each);
            }
            Entry::Occupied(first) => {
                let (name, first) = (first.key(), first.get());
                return Err(wrong(
                    line,
                    format!(
                        "has {user:?}, who is user {name:?} like {:?} of line {}, and nobody can have two keys: remove one. \
                         Where the proxies keep domains apart (spec.policy.userNames.stripDomain: false), give each \
                         domain a list of its own",
                        first.user, first.line
                    ),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(text: &str) -> Vec<String> {
        read(text.as_bytes()).unwrap()
    }

    fn refused(text: &str) -> String {
        read(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn lists_of_directories_and_spreadsheets_are_recognised() {
        for text in [
            "jane\njoe\n",
            "User,mail\njane,j@x\n\"joe\",\n\n",
            "jane;Jane Doe;Sales\njoe;Joe Roe;Sales",
            "jane\tJane Doe\njoe\tJoe Roe\n",
            "SamAccountName\r\njane\r\njoe\r\n",
            "#TYPE Selected.Microsoft.ActiveDirectory.Management.ADUser\r\n\"SamAccountName\"\r\n\"jane\"\r\n\"joe\"\r\n",
            "\"Name\";\"SamAccountName\"\n\"Doe, Jane\";\"jane\"\n\"Roe, Joe\";\"joe\"\n",
            "DistinguishedName,Enabled,SamAccountName\n\"CN=Jane,OU=Sales\",True,jane\n\"CN=Joe,OU=Sales\",True,joe\n",
            "sep=;\nName;user name\nJane Doe;jane\nJoe Roe;joe",
            "\nSamAccountName\n--------------\njane          \njoe           \n\n",
            "\"Name\"\n\"jane\"\n\"joe\"\n",
            "SEP=;\nName;SamAccountName\nDoe, Jane;jane\nRoe, Joe;joe\n",
            "sep=\t\r\nName\tSamAccountName\r\nJane\tjane\r\nJoe\tjoe\r\n",
            "\"sep=;\"\nName;SamAccountName\nDoe, Jane;jane\nRoe, Joe;joe\n",
            "First Name [Required],Last Name [Required],Email Address [Required]\nJane,Doe,jane\nJoe,Roe,joe\n",
            "primaryEmail\njane\njoe\n",
            "id,displayName,onPremisesSamAccountName\n1,Jane Doe,jane\n2,Joe Roe,joe\n",
            "Benutzername;Name\njane;Jane Doe\njoe;Joe Roe\n",
            "# staff\njane\n# more\njoe\n",
        ] {
            assert_eq!(users(text), ["jane", "joe"], "{text}");
        }
        let upn = "UserPrincipalName,DisplayName\njane@corp.example,Jane Doe\n";
        assert_eq!(users(upn), ["jane@corp.example"]);
    }

    #[test]
    fn what_powershell_writes_is_read() {
        let text = "\u{feff}\"SamAccountName\"\r\n\"jané\"\r\n";
        let (le, be): (Vec<_>, Vec<_>) = text
            .encode_utf16()
            .map(|u| (u.to_le_bytes(), u.to_be_bytes()))
            .unzip();
        for file in [
            le.concat(),
            be.concat(),
            text.as_bytes().to_vec(),
            le[1..].concat(),
            be[1..].concat(),
        ] {
            assert_eq!(read(&file).unwrap(), ["jané"]);
        }
        let latin = read(b"user\njane\njos\xe9\n").unwrap_err();
        assert!(latin.contains("line 3 is not UTF-8 text"), "{latin}");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line_and_what_to_do() {
        for (text, line, told) in [
            ("CORP\\jane\nLAB\\jane\n", "line 2", "\"CORP\\\\jane\" of line 1"),
            ("user\njane\nJANE@corp.example\n", "line 3", "list of its own"),
            ("jane\nJANE\n", "line 2", "nobody can have two keys"),
            (
                "DisplayName,Department\nJane Doe,Sales\n",
                "line 1",
                "export SamAccountName",
            ),
            ("Jane Doe;jane;Sales\n", "line 1", "put a header above it"),
            ("Name,Mobile\nJane Doe,1\n", "line 2", "SamAccountName"),
            (
                "SamAccountName,Name\njane,Jane\n,Joe\n",
                "line 3",
                "no user in column 1",
            ),
            ("ja:ne\n", "line 1", "':'"),
            (
                "\"CN=Jane Doe,OU=Sales\"\n\"CN=Joe,OU=Sales\"\n",
                "line 1",
                "SamAccountName",
            ),
            ("jane\nAdministrator   jim   joe\n", "line 2", "no login name"),
            ("User accounts for \\\\DC1\njane\n", "line 1", "no login name"),
            (
                "# staff\r\n\r\njane\r\n\r\n# more\r\nJANE\r\n",
                "line 6",
                "of line 3",
            ),
            (
                "#TYPE Selected.X\n\"SamAccountName\"\n\n\"jane\"\n\n\"jane\"\n",
                "line 6",
                "of line 4",
            ),
            (
                "sep=;\nuser;name\njane;Jane\n;Joe\n",
                "line 4",
                "no user in column 1",
            ),
            (
                "SamAccountName Name\n-------------- ----\njane Jane\n",
                "line 2",
                "Export-Csv",
            ),
        ] {
            let error = refused(text);
            assert!(error.contains(line) && error.contains(told), "{text}: {error}");
        }
    }
}
