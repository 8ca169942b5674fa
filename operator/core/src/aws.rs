//! How AWS calls fail, as far as decisions depend on it.

use std::fmt;

use crate::labelled_enum::labelled_enum;

/// A failed AWS call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsFailure {
    /// Which call.
    pub operation: AwsOperation,
    /// What kind of failure.
    pub class: AwsErrorClass,
    /// AWS's own message, or the transport's. It never holds a setting.
    pub message: String,
    /// AWS's request id.
    pub request_id: Option<String>,
}

impl AwsFailure {
    /// Whether the call certainly changed nothing: AWS refused it, or it wasn't sent, as for want of a role's credentials.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        self.operation == AwsOperation::AssumeRole || self.class.is_definite()
    }
}

impl fmt::Display for AwsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message.trim_end_matches('.');
        write!(f, "{}: {message}", self.operation.as_str())?;
        match &self.request_id {
            Some(id) => write!(f, " (request id {id})"),
            None => Ok(()),
        }
    }
}

/// The AWS calls that the operator makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AwsOperation {
    /// ds:DescribeDirectories
    DescribeDirectories,
    /// ds:DescribeDomainControllers
    DescribeDomainControllers,
    /// ds:ListTagsForResource
    ListTagsForResource,
    /// ds:AddTagsToResource
    AddTagsToResource,
    /// ds:EnableRadius
    EnableRadius,
    /// ds:UpdateRadius
    UpdateRadius,
    /// ds:DisableRadius
    DisableRadius,
    /// sts:AssumeRole
    AssumeRole,
}

impl AwsOperation {
    /// The operation of a name that was kept in a status.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::EnableRadius, Self::UpdateRadius, Self::DisableRadius]
            .into_iter()
            .find(|operation| operation.as_str() == name)
    }

    /// The operation's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DescribeDirectories => "DescribeDirectories",
            Self::DescribeDomainControllers => "DescribeDomainControllers",
            Self::ListTagsForResource => "ListTagsForResource",
            Self::AddTagsToResource => "AddTagsToResource",
            Self::EnableRadius => "EnableRadius",
            Self::UpdateRadius => "UpdateRadius",
            Self::DisableRadius => "DisableRadius",
            Self::AssumeRole => "AssumeRole",
        }
    }

    /// The IAM action that allows it.
    #[must_use]
    pub const fn iam_action(self) -> &'static str {
        match self {
            Self::DescribeDirectories => "ds:DescribeDirectories",
            Self::DescribeDomainControllers => "ds:DescribeDomainControllers",
            Self::ListTagsForResource => "ds:ListTagsForResource",
            Self::AddTagsToResource => "ds:AddTagsToResource",
            Self::EnableRadius => "ds:EnableRadius",
            Self::UpdateRadius => "ds:UpdateRadius",
            Self::DisableRadius => "ds:DisableRadius",
            Self::AssumeRole => "sts:AssumeRole",
        }
    }
}

labelled_enum! {
    /// Kinds of failure.
    pub enum AwsErrorClass {
        /// No credentials were found.
        NoCredentials => "no_credentials",
        /// Credentials that AWS does not know, whose signature is wrong, or that have expired.
        InvalidCredentials => "invalid_credentials",
        /// AccessDeniedException, for the call or for the role.
        AccessDenied => "access_denied",
        /// ThrottlingException.
        Throttled => "throttled",
        /// EntityDoesNotExistException, or an empty answer to DescribeDirectories.
        NotFound => "not_found",
        /// EntityAlreadyExistsException.
        AlreadyExists => "already_exists",
        /// InvalidParameterException, ValidationException.
        InvalidParameter => "invalid_parameter",
        /// UnsupportedOperationException.
        Unsupported => "unsupported",
        /// ClientException and other refusals.
        Refused => "refused",
        /// ServiceException and other 5xx answers: it may have been done all the same.
        Service => "service",
        /// The operator did not send it: its leader's lease was about to end.
        NotSent => "not_sent",
        /// No answer: time-out, connection refused, no DNS. It may have been done all the same.
        Unreachable => "unreachable",
    }
}

impl AwsErrorClass {
    /// Whether a call that was sent certainly changed nothing. After any other failure, a write may have happened.
    const fn is_definite(self) -> bool {
        !matches!(self, Self::Service | Self::Unreachable)
    }

    /// The class of a name in a status.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_whose_role_could_not_be_assumed_certainly_changed_nothing() {
        let definite = |operation| {
            let failure = AwsFailure {
                operation,
                class: AwsErrorClass::Unreachable,
                message: String::new(),
                request_id: None,
            };
            failure.is_definite()
        };
        assert!(definite(AwsOperation::AssumeRole));
        assert!(!definite(AwsOperation::EnableRadius));
    }
}
