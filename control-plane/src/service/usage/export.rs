//! The ledger of all subjects, a piece at a time: so that millions of rows are told without holding them.

use jiff::Timestamp;

use super::UsagePeriod;
use crate::service::{ControlPlane, ServiceError};
use crate::store::usage::{UsageSum, Wanted, subjects_through, sums_of_many};

/// About how many rows of the ledger a piece reads. A subject is in one piece.
const PIECE_ROWS: i64 = 2_000;

/// Which usage is exported.
#[derive(Debug, Clone, Default)]
pub struct ExportQuery {
    /// Only this meter.
    pub meter: Option<String>,
    /// From the start of the hour of this moment. Default: this month.
    pub from: Option<Timestamp>,
    /// To the end of the hour of this moment. Default: now.
    pub to: Option<Timestamp>,
    /// By which periods.
    pub by: UsagePeriod,
}

/// An export that is on its way.
#[derive(Debug, Clone)]
pub struct Export {
    meter: Option<String>,
    from_ms: i64,
    to_ms: i64,
    by: UsagePeriod,
    /// The last subject that was told.
    after: String,
}

impl ControlPlane {
    /// Begins an export.
    pub fn begin_export(&self, query: ExportQuery) -> Result<Export, ServiceError> {
        // It is read in pieces, however long it is.
        let (from, to) = self.range_of(query.from, query.to, UsagePeriod::Total)?;
        Ok(Export {
            meter: query.meter,
            from_ms: from.as_millisecond(),
            to_ms: to.as_millisecond(),
            by: query.by,
            after: String::new(),
        })
    }

    /// The next piece, by subject; it may be empty. Nothing after the last.
    pub async fn export_piece(
        &self,
        export: &mut Export,
    ) -> Result<Option<Vec<(String, UsageSum)>>, ServiceError> {
        let Some(through) = subjects_through(&self.database, &export.after, PIECE_ROWS).await? else {
            return Ok(None);
        };
        let wanted = Wanted {
            subject: &export.after,
            meter: export.meter.as_deref(),
            from_ms: export.from_ms,
            to_ms: export.to_ms,
            by: export.by,
        };
        let piece = sums_of_many(&self.database, &wanted, &through).await?;
        export.after = through;
        Ok(Some(piece))
    }
}
