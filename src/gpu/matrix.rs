//! What an adapter says of its matrix units.

use wgpu::{CooperativeMatrixProperties, CooperativeScalarType, Features};

use crate::plan::{MATRIX_STRIPS, MatrixSide, MatrixUnits};

/// What kernels on matrix units need.
pub(super) const FEATURES: Features =
    Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(Features::SHADER_F16).union(Features::SUBGROUP);

/// The units that a device of `adapter` with `features` and `limits` may use: the largest with factors in f16 and sums
/// in f32, if a workgroup has room for its subgroups.
pub(crate) fn matrix_units(adapter: &wgpu::Adapter, features: Features, limits: &wgpu::Limits) -> Option<MatrixUnits> {
    let largest = adapter.get_info().subgroup_max_size;
    let most = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
    if !features.contains(FEATURES) || largest.saturating_mul(MATRIX_STRIPS) > most {
        return None;
    }
    let side = side(&adapter.cooperative_matrix_properties())?;
    Some(MatrixUnits { side, subgroup: largest })
}

fn side(offered: &[CooperativeMatrixProperties]) -> Option<MatrixSide> {
    let has = |side: &MatrixSide| {
        offered.iter().any(|one| {
            [one.m_size, one.n_size, one.k_size] == [side.length(); 3]
                && (one.ab_type, one.cr_type) == (CooperativeScalarType::F16, CooperativeScalarType::F32)
        })
    };
    MatrixSide::ALL.into_iter().rev().find(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(
        size: [u32; 3],
        ab_type: CooperativeScalarType,
        cr_type: CooperativeScalarType,
    ) -> CooperativeMatrixProperties {
        let [m_size, n_size, k_size] = size;
        CooperativeMatrixProperties { m_size, n_size, k_size, ab_type, cr_type, saturating_accumulation: false }
    }

    #[test]
    fn the_largest_square_of_f16_with_sums_in_f32_is_taken() {
        use CooperativeScalarType::{F16, F32, I32};
        let apple = [offered([8; 3], F32, F32), offered([8; 3], F16, F16), offered([8; 3], F16, F32)];
        assert_eq!(side(&apple), Some(MatrixSide::Eight));
        assert_eq!(side(&apple[..2]), None, "f16 sums lose what a long product gains");
        let nvidia = [offered([8; 3], F16, F32), offered([16; 3], F16, F16), offered([16; 3], F16, F32)];
        assert_eq!(side(&nvidia), Some(MatrixSide::Sixteen));
        assert_eq!(side(&[offered([8, 16, 16], F16, F32), offered([16; 3], I32, I32)]), None, "Intel's are no squares");
    }
}
