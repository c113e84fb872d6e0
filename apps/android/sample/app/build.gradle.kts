plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

val released = rootDir.resolve(property("portrait.folder") as String)
val collected = layout.buildDirectory.dir("portrait")

// the two files that the code runs, and the golden vectors that it checks itself with
val portraitAssets by tasks.registering(Sync::class) {
    from(released) {
        include("*-rgb-fp16.tflite", "*-rgba-*_u8.tflite", "golden/*.png")
    }
    into(collected)
}

android {
    namespace = "sample"
    compileSdk = 35

    defaultConfig {
        applicationId = "portraitseg.sample"
        minSdk = 24 // LiteRT's
        targetSdk = 35
        versionCode = 1
        versionName = "1"
    }

    sourceSets["main"].kotlin.srcDir(released.resolve("kotlin/portrait"))
    sourceSets["main"].assets.srcDir(collected)

    androidResources { noCompress += "tflite" }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
    kotlinOptions { jvmTarget = "11" }
}

tasks.named("preBuild") { dependsOn(portraitAssets) }

dependencies {
    implementation("com.google.ai.edge.litert:litert:2.3.0")
    implementation("com.google.ai.edge.litert:litert-gpu:2.3.0") // without it there is no GPU
    implementation("androidx.activity:activity-ktx:1.9.3")
    implementation("androidx.camera:camera-camera2:1.4.1")
    implementation("androidx.camera:camera-lifecycle:1.4.1")
}
