package retinaface.demo

import android.Manifest
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Bundle
import android.provider.Settings
import android.view.Surface
import android.view.SurfaceHolder
import android.view.SurfaceView
import android.widget.Button
import android.widget.TextView
import retinaface.ModelException
import retinaface.Picture
import retinaface.RetinaFaceDetector

/** The app's one screen: the camera or a picture with its faces, and buttons to change what is seen. */
class MainActivity : Activity(), SurfaceHolder.Callback, FrameSource.Listener {
    private val app get() = application as FacesApp
    private val camera by lazy { app.openCamera() }
    private val facesView by lazy { findViewById<FacesView>(R.id.faces) }
    private val surfaceView by lazy { findViewById<SurfaceView>(R.id.surface) }
    private val preview by lazy { findViewById<PreviewLayout>(R.id.preview) }
    private val message by lazy { MessagePanel(this) }
    private val status by lazy { findViewById<TextView>(R.id.status) }

    private var model = Model.FLOAT32
    private var facing = Facing.FRONT
    private var pictureUri: Uri? = null
    private var surface: Surface? = null
    private var mirrored = false
    private var resumed = false
    private var asked = false

    // Written in the main thread; frames read them in the camera's.
    @Volatile private var detector: RetinaFaceDetector? = null

    @Volatile private var stream = FaceStream()

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        state?.let {
            model = Model.valueOf(it.getString("model", model.name))
            facing = Facing.valueOf(it.getString("facing", facing.name))
            pictureUri = it.getString("picture")?.let(Uri::parse)
            asked = it.getBoolean("asked")
        }
        setContentView(R.layout.main)
        surfaceView.holder.addCallback(this)
        findViewById<Button>(R.id.model).setOnClickListener { switchModel() }
        findViewById<Button>(R.id.camera).setOnClickListener { switchCamera() }
        findViewById<Button>(R.id.picture).setOnClickListener { choosePicture() }
        labelButtons()
        openDetector()
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putString("model", model.name)
        state.putString("facing", facing.name)
        state.putString("picture", pictureUri?.toString())
        state.putBoolean("asked", asked)
    }

    override fun onResume() {
        super.onResume()
        resumed = true
        if (pictureUri == null) startCamera()
    }

    override fun onPause() {
        resumed = false
        camera.stop()
        super.onPause()
    }

    override fun onDestroy() {
        val old = detector
        detector = null
        app.background.execute { old?.close() }
        super.onDestroy()
    }

    // The model

    private fun switchModel() {
        model = Model.values()[(model.ordinal + 1) % Model.values().size]
        labelButtons()
        openDetector()
    }

    private fun openDetector() {
        val wanted = model
        val old = detector
        detector = null
        status.text = getString(R.string.status_starting, wanted.label)
        app.background.execute {
            old?.close()
            try {
                val opened = app.openDetector(wanted)
                runOnUiThread { useDetector(opened, wanted) }
            } catch (error: ModelException) {
                runOnUiThread { showModelError(error) }
            }
        }
    }

    private fun useDetector(opened: RetinaFaceDetector, openedModel: Model) {
        if (isDestroyed || openedModel != model) {
            app.background.execute { opened.close() }
            return
        }
        detector = opened
        status.text = model.label
        pictureUri?.let { showPicture(it) } ?: if (resumed) startCamera() else Unit
    }

    private fun showModelError(error: ModelException) {
        camera.stop()
        facesView.clear()
        status.text = model.label
        message.show(error.message.orEmpty())
    }

    // The camera

    private fun startCamera() {
        if (detector == null) return // openDetector() comes back here
        if (checkSelfPermission(Manifest.permission.CAMERA) != PackageManager.PERMISSION_GRANTED) {
            if (!asked) requestPermissions(arrayOf(Manifest.permission.CAMERA), CAMERA_PERMISSION) else showRefusal()
            asked = true
            return
        }
        message.hide()
        tryCamera {
            if (facing !in camera.facings) facing = camera.facings.firstOrNull() ?: return showNoCamera()
            labelButtons()
            val format = camera.format(facing, displayDegrees())
            mirrored = format.mirrored
            preview.setFrame(format.width, format.height)
            surfaceView.holder.setFixedSize(format.bufferWidth, format.bufferHeight)
            val target = surface ?: return // surfaceCreated() comes back here
            stream = FaceStream()
            camera.start(facing, displayDegrees(), target, this)
        }
    }

    private fun switchCamera() {
        camera.stop()
        facesView.clear()
        tryCamera { if (pictureUri == null && facing.other in camera.facings) facing = facing.other }
        pictureUri = null
        labelButtons()
        startCamera()
    }

    private inline fun tryCamera(action: () -> Unit) =
        try {
            action()
        } catch (error: CameraException) {
            message.show(getString(R.string.camera_failed, error.message), R.string.try_again) { startCamera() }
        }

    private fun showNoCamera() = message.show(getString(R.string.camera_missing))

    override fun onFrame(frame: Picture, nanos: Long) {
        val current = detector ?: return
        try {
            val finding = stream.find(current, frame, nanos)
            runOnUiThread { if (resumed && pictureUri == null) showFinding(finding) }
        } catch (error: ModelException) {
            runOnUiThread { showModelError(error) }
        } catch (error: IllegalStateException) {
            return // closed meanwhile: another model was chosen
        }
    }

    private fun showFinding(finding: Finding) {
        facesView.showFrame(finding, mirrored)
        status.text = describe(finding)
    }

    override fun onFailure(reason: String) {
        camera.stop()
        facesView.clear()
        message.show(getString(R.string.camera_stopped, reason), R.string.try_again) { startCamera() }
    }

    override fun surfaceCreated(holder: SurfaceHolder) {
        surface = holder.surface
        if (resumed && pictureUri == null) startCamera()
    }

    override fun surfaceChanged(holder: SurfaceHolder, format: Int, width: Int, height: Int) = Unit

    override fun surfaceDestroyed(holder: SurfaceHolder) {
        camera.stop()
        surface = null
    }

    override fun onRequestPermissionsResult(code: Int, permissions: Array<String>, results: IntArray) {
        if (code != CAMERA_PERMISSION) return
        if (results.firstOrNull() == PackageManager.PERMISSION_GRANTED) startCamera() else showRefusal()
    }

    private fun showRefusal() {
        status.text = model.label
        message.show(getString(R.string.camera_refused), R.string.allow_camera) {
            if (shouldShowRequestPermissionRationale(Manifest.permission.CAMERA)) {
                requestPermissions(arrayOf(Manifest.permission.CAMERA), CAMERA_PERMISSION)
            } else { // asking again shows nothing by now
                val page = Uri.fromParts("package", packageName, null)
                startActivity(Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, page))
            }
        }
    }

    @Suppress("DEPRECATION") // its successor begins with API 30
    private fun displayDegrees(): Int = 90 * windowManager.defaultDisplay.rotation

    // Pictures

    private fun choosePicture() {
        val intent = Intent(Intent.ACTION_GET_CONTENT).setType("image/*").addCategory(Intent.CATEGORY_OPENABLE)
        try {
            startActivityForResult(intent, CHOOSE_PICTURE)
        } catch (error: ActivityNotFoundException) {
            message.show(getString(R.string.no_picker))
        }
    }

    override fun onActivityResult(code: Int, result: Int, data: Intent?) {
        if (code == CHOOSE_PICTURE && result == RESULT_OK) data?.data?.let { showPicture(it) }
    }

    private fun showPicture(uri: Uri) {
        pictureUri = uri
        camera.stop()
        labelButtons()
        message.hide()
        val current = detector ?: return // useDetector() comes back here
        app.background.execute {
            try {
                val bitmap = PictureReader(contentResolver).read(uri)
                runOnUiThread { if (pictureUri == uri) facesView.showPicture(bitmap, null) }
                val began = System.nanoTime()
                val faces = current.detect(bitmap)
                val millis = (System.nanoTime() - began) / 1e6f
                val finding = Finding(faces, bitmap.width, bitmap.height, millis, 0f)
                runOnUiThread {
                    if (pictureUri == uri) {
                        facesView.showPicture(bitmap, finding)
                        status.text = describe(finding)
                    }
                }
            } catch (error: PictureException) {
                runOnUiThread { showPictureError(uri, error) }
            } catch (error: ModelException) {
                runOnUiThread { showModelError(error) }
            } catch (error: IllegalStateException) {
                return@execute // closed meanwhile: another model was chosen
            }
        }
    }

    private fun showPictureError(uri: Uri, error: PictureException) {
        if (pictureUri != uri) return
        facesView.clear()
        status.text = model.label
        message.show(getString(error.text), R.string.picture_button) { choosePicture() }
    }

    // What is shown

    private fun describe(finding: Finding): String {
        val count = resources.getQuantityString(R.plurals.faces, finding.faces.size, finding.faces.size)
        val rate = finding.framesPerSecond
        if (rate == 0f) return getString(R.string.status_picture, count, finding.millis)
        return getString(R.string.status_live, count, finding.millis, rate)
    }

    private fun labelButtons() {
        findViewById<Button>(R.id.model).text = getString(R.string.model_button, model.label)
        val cameraText = when {
            pictureUri != null -> R.string.live_button
            facing == Facing.FRONT -> R.string.camera_front
            else -> R.string.camera_back
        }
        findViewById<Button>(R.id.camera).setText(cameraText)
    }

    private companion object {
        const val CAMERA_PERMISSION = 1
        const val CHOOSE_PICTURE = 2
    }
}
