//! The distribution of times, and their change since an earlier run, by Criterion.

use std::time::Duration;

use criterion::Criterion;

use super::rows::Row;

/// Gives each row to Criterion.
pub(crate) fn criterion(criterion: &mut Criterion, group: &str, rows: &[Row]) {
    let mut group = criterion.benchmark_group(group);
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500));
    for row in rows {
        group.bench_function(&row.name, |bencher| bencher.iter_custom(&row.run));
    }
    group.finish();
}
