"""Tests that take more than a few seconds on a quiet core, by module; None stands for all of a module.

All parameters of a test count together. `python -m pytest --durations 50` says what belongs here.
"""

SLOW: dict[str, frozenset[str] | None] = {
    "tests/checkpoint/test_files.py": frozenset(
        {
            "test_a_disk_that_refuses_leaves_the_checkpoint_before_it",
            "test_a_save_that_is_killed_leaves_the_checkpoint_before_it",
        }
    ),
    "tests/cli/test_evaluate.py": frozenset(
        {
            "test_several_roots_may_follow_one_flag_or_each_its_own",
            "test_the_config_beside_the_results_repeats_the_evaluation",
        }
    ),
    "tests/cli/test_main.py": frozenset({"test_help_lists_every_verb_with_what_it_is_for"}),
    "tests/cli/test_options.py": frozenset({"test_what_a_training_writes_can_be_given_to_train_again"}),
    "tests/cli/test_view.py": frozenset({"test_it_prints_its_address_and_ends_with_ctrl_c"}),
    "tests/degrade/test_apply.py": frozenset(
        {
            "test_noise_of_projections_is_that_of_an_exam_at_less_dose",
            "test_the_bits_do_not_depend_on_the_process_or_its_threads",
        }
    ),
    "tests/degrade/test_sampling.py": frozenset({"test_draws_are_the_same_in_another_process"}),
    "tests/dicom/test_oracles.py": frozenset(
        {"test_dcm2niix_sees_the_same_volume", "test_highdicom_sees_the_same_volume"}
    ),
    "tests/docs/test_site.py": frozenset(
        {"test_the_notebook_runs", "test_the_site_is_built_and_loads_nothing_from_elsewhere"}
    ),
    "tests/esrgan/test_commands.py": None,
    "tests/evaluate/test_comparison.py": frozenset({"test_holms_correction_grows_with_the_rank_and_never_falls"}),
    "tests/evaluate/test_curve.py": frozenset(
        {
            "test_a_curve_that_was_cut_off_is_continued",
            "test_each_end_has_the_numbers_of_that_generators_own_evaluation",
        }
    ),
    "tests/evaluate/test_odd_options.py": frozenset(
        {
            "test_any_subset_of_metrics_has_a_table_plots_and_a_report",
            "test_hu_metrics_are_not_said_to_be_on_a_window",
            "test_lanczos_alone_is_enough_of_a_baseline",
            "test_long_and_foreign_names_are_drawn_without_a_warning",
            "test_without_noise_there_is_no_detectability_and_no_frequency_of_noise",
        }
    ),
    "tests/evaluate/test_plots.py": frozenset(
        {"test_no_plot_is_a_blank_page", "test_plots_do_without_values_that_could_not_be_computed"}
    ),
    "tests/evaluate/test_report.py": frozenset(
        {
            "test_studies_are_the_same_again",
            "test_the_page_has_a_part_for_everything_that_was_computed",
            "test_the_page_opens_in_a_browser_and_prints",
        }
    ),
    "tests/evaluate/test_run.py": frozenset(
        {
            "test_a_killed_evaluation_is_continued_to_the_same_bytes",
            "test_a_net_for_scale_4_sees_slices_cropped_to_a_multiple_of_4",
            "test_an_interrupted_evaluation_is_continued_to_the_same_result",
            "test_another_engine_gives_the_same_numbers_to_rounding",
            "test_limits_choose_slices_by_seed_and_patient_alone",
            "test_only_the_metrics_that_were_asked_for_have_columns",
            "test_other_settings_do_not_continue_it",
            "test_plots_and_a_picture_come_with_the_numbers",
        }
    ),
    "tests/hallucination/test_study.py": frozenset(
        {"test_on_real_ct_interpolation_invents_nothing_and_noise_is_found_in_organs"}
    ),
    "tests/infer/test_engines.py": None,
    "tests/infer/test_export.py": None,
    "tests/losses/test_losses.py": frozenset({"test_the_perceptual_loss_alone_moves_sr"}),
    "tests/metrics/test_lpips.py": frozenset(
        {"test_heads_of_another_trunk_are_refused", "test_it_agrees_with_the_package_lpips"}
    ),
    "tests/metrics/test_niqe.py": frozenset({"test_it_agrees_on_the_calibration_images", "test_it_agrees_with_pyiqa"}),
    "tests/metrics/test_perceptual.py": frozenset({"test_auto_is_this_package_where_its_weights_were_fetched"}),
    "tests/models/test_critics.py": frozenset({"test_iterating_brings_the_largest_singular_value_to_one"}),
    "tests/phantom/test_synthetic_exams.py": None,
    "tests/physics/test_docs.py": frozenset({"test_the_pages_numbers_come_from_its_lines"}),
    "tests/physics/test_real_scan.py": frozenset(
        {
            "test_a_finer_scan_of_one_phantom_has_sharper_rods_and_more_noise",
            "test_the_command_writes_curves_and_a_picture",
        }
    ),
    "tests/physics/test_simulated_scanner.py": frozenset({"test_a_slice_enlarged_is_the_object_at_that_size"}),
    "tests/preprocess/test_output_folder.py": frozenset({"test_headers_read_in_other_processes_tell_the_same"}),
    "tests/preprocess/test_real_ct.py": frozenset(
        {
            "test_dciodvfy_finds_no_error_that_the_source_did_not_have",
            "test_every_slice_of_every_patient_is_made",
            "test_slices_lie_where_those_of_the_source_do",
        }
    ),
    "tests/preprocess/test_run.py": frozenset(
        {
            "test_a_disk_too_small_is_refused_before_anything_is_written",
            "test_an_interrupted_run_is_continued_to_the_same_result",
            "test_results_do_not_depend_on_the_number_of_processes",
        }
    ),
    "tests/projection/test_noise.py": None,
    "tests/projection/test_projection.py": frozenset(
        {
            "test_a_part_of_the_plane_is_that_part",
            "test_a_smooth_image_comes_back",
            "test_a_structure_lies_where_it_was_put",
            "test_an_image_of_water_is_water_too",
            "test_an_image_projects_as_the_shapes_it_shows",
            "test_contrast_is_kept",
            "test_water_is_water_from_the_middle_to_the_rim",
        }
    ),
    "tests/quality/test_before_after.py": frozenset(
        {
            "test_a_shift_of_one_tissue_is_its_bias_and_a_disagreement",
            "test_a_source_repeated_is_its_own_equal",
            "test_edges_are_compared_with_those_of_another_result",
            "test_noise_that_grows_or_shrinks_shows_in_the_ratio_and_not_in_agreement",
        }
    ),
    "tests/quality/test_noise.py": frozenset(
        {"test_known_noise_is_found_to_5_percent", "test_noise_added_to_a_quiet_real_slice_is_found_to_5_percent"}
    ),
    "tests/quality/test_sharpness.py": frozenset(
        {
            "test_a_known_blur_is_found_to_a_tenth_of_a_pixel",
            "test_a_real_series_blurred_by_a_known_amount_shows_it",
            "test_lung_and_fat_have_edges_as_air_has",
            "test_two_scans_by_one_kernel_are_as_sharp_and_a_sharper_kernel_is_sharper",
        }
    ),
    "tests/quantization/test_calibration.py": None,
    "tests/quantization/test_quantized_model.py": None,
    "tests/test_boundary.py": frozenset(
        {
            "test_absurd_numbers_in_one_patient_do_not_stop_the_others",
            "test_names_with_dollars_and_braces_are_drawn_as_they_are",
        }
    ),
    "tests/test_defect_policy.py": frozenset({"test_each_command_refuses_warns_or_goes_on_as_the_table_says"}),
    "tests/test_exams.py": frozenset({"test_the_report_of_a_real_root_is_right"}),
    "tests/test_figures.py": frozenset(
        {
            "test_a_picture_is_written_whole_and_is_the_same_each_time",
            "test_flat_planes_are_shown_below_each_other_and_high_ones_side_by_side",
        }
    ),
    "tests/test_files.py": frozenset(
        {"test_a_process_killed_inside_the_block_leaves_the_old_file", "test_only_the_leftovers_of_that_name_go"}
    ),
    "tests/test_hashing.py": frozenset(
        {
            "test_a_seed_fits_into_its_bits",
            "test_a_seed_is_the_same_in_another_process",
            "test_other_parts_give_another_seed",
        }
    ),
    "tests/test_hu.py": frozenset(
        {
            "test_a_window_shows_its_ends_as_0_and_1",
            "test_hu_come_back_from_the_networks_range_clipped_and_else_unchanged",
        }
    ),
    "tests/test_nifti.py": frozenset({"test_however_the_file_runs_the_voxels_keep_their_places"}),
    "tests/test_padding.py": frozenset({"test_padding_of_real_scanners_is_found_without_a_tag"}),
    "tests/test_pool.py": frozenset(
        {
            "test_a_process_that_is_killed_is_one_clear_error",
            "test_a_process_that_is_killed_once_costs_no_result",
            "test_an_interruption_ends_what_is_under_way_at_once",
            "test_the_others_are_done_when_one_takes_its_process_down_every_time",
        }
    ),
    "tests/test_recipes.py": frozenset({"test_the_command_gives_the_committed_list"}),
    "tests/test_resample.py": frozenset({"test_a_structure_keeps_its_position_in_mm"}),
    "tests/train/test_finetune.py": None,
    "tests/train/test_resume.py": None,
    "tests/train/test_run.py": None,
    "tests/upscale/test_demo.py": None,
    "tests/upscale/test_tuning.py": None,
}
