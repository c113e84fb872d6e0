// Generated from manifest.json by `python -m export handout`; a change here is lost, and check-assets notices it.
public enum PortraitModel {
    public static let spec = ModelSpec(
        name: "selfie_swish",
        width: 160,
        height: 176,
        resource: "selfie_swish-176x160-fp16",
        input: "image",
        output: "mask",
        goldenPortrait: "portrait.png",
        goldenMask: "selfie_swish-176x160-fp16.mlpackage.png",
        meanSteps: 4.0,
        flippedShare: 0.01,
        refine: RefineSettings(
            side: 88, radius: 2, epsilon: 0.0001,
            low: 0.1, high: 0.9,
            specks: 0.002, holes: 0.0005
        ),
        smooth: SmoothSettings(
            keep: 0.85, low: 0.1, high: 0.5,
            reach: 4, cut: 0.2, gapS: 0.5
        )
    )
}
