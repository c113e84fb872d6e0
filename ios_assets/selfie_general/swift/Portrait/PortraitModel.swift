// Generated from manifest.json by `python -m export handout`; a change here is lost, and check-assets notices it.
public enum PortraitModel {
    public static let spec = ModelSpec(
        name: "selfie_general",
        width: 256,
        height: 256,
        resource: "selfie_general-256x256-fp16",
        input: "image",
        output: "mask",
        goldenPortrait: "portrait.png",
        goldenMask: "selfie_general-256x256-fp16.mlpackage.png",
        meanSteps: 4.0,
        flippedShare: 0.01,
        refine: RefineSettings(
            side: 128, radius: 1, epsilon: 0.003,
            low: 0.25, high: 0.75,
            specks: 0.002, holes: 0.0005
        ),
        smooth: SmoothSettings(
            keep: 0.95, low: 0.1, high: 0.5,
            reach: 4, cut: 0.2, gapS: 0.5
        )
    )
}
