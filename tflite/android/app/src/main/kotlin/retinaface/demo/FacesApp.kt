package retinaface.demo

import android.app.Application
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import retinaface.RetinaFaceDetector

/** A model among the app's assets. */
enum class Model(val asset: String) {
    FLOAT32("float32.tflite"),
    INT8("int8.tflite"),
    ;

    val label: String get() = asset.removeSuffix(".tflite")
}

/** Makes the parts of the app that touch the device; tests put others in their place. */
open class FacesApp : Application() {
    /** Where files are read and models opened, one after the other. */
    open val background: Executor by lazy { Executors.newSingleThreadExecutor() }

    /** @throws retinaface.ModelException the file is missing or damaged. */
    open fun openDetector(model: Model): RetinaFaceDetector = RetinaFaceDetector.fromAsset(assets, model.asset)

    open fun openCamera(): FrameSource = Camera2Source(this)
}
