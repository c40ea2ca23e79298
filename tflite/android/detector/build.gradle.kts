plugins {
    id("com.android.library")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "retinaface"
    compileSdk = 34

    defaultConfig { minSdk = 24 }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
    kotlinOptions { jvmTarget = "1.8" }

    // Read by the tests of both modules.
    sourceSets["test"].kotlin.srcDir("src/vectors/kotlin")
}

dependencies {
    // The interpreter's classes are org.tensorflow.lite.*, as in org.tensorflow:tensorflow-lite 2.16.1,
    // against which build.py compiles the same sources.
    api("com.google.ai.edge.litert:litert:1.4.2")

    testImplementation("junit:junit:4.13.2")
    testImplementation("org.json:json:20240303")
}

// Written by tflite/write_vectors.py.
tasks.withType<Test> {
    systemProperty("retinaface.vectors", providers.gradleProperty("vectors").getOrElse("$rootDir/build/vectors"))
}
