plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "retinaface.demo"
    compileSdk = 34

    defaultConfig {
        applicationId = "retinaface.demo"
        minSdk = 24
        targetSdk = 34
        versionCode = 1
        versionName = "1.0"
    }

    androidResources { noCompress += "tflite" }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
    kotlinOptions { jvmTarget = "1.8" }

    testOptions { unitTests.isIncludeAndroidResources = true }

    sourceSets["test"].kotlin.srcDir("../detector/src/vectors/kotlin")
}

dependencies {
    implementation(project(":detector"))

    testImplementation("junit:junit:4.13.2")
    testImplementation("org.json:json:20240303")
    testImplementation("org.robolectric:robolectric:4.13")
}

tasks.withType<Test> {
    systemProperty("retinaface.vectors", providers.gradleProperty("vectors").getOrElse("$rootDir/build/vectors"))
}
