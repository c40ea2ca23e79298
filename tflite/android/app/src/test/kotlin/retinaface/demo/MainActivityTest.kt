package retinaface.demo

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.SurfaceTexture
import android.net.Uri
import android.os.Looper
import android.view.Surface
import android.view.SurfaceHolder
import android.view.View
import android.widget.Button
import android.widget.TextView
import java.io.ByteArrayInputStream
import java.io.File
import java.lang.reflect.Proxy
import java.nio.ByteBuffer
import java.util.concurrent.Executor
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import retinaface.Face
import retinaface.ModelException
import retinaface.Network
import retinaface.RawOutputs
import retinaface.RetinaFaceDetector
import retinaface.Vector
import retinaface.Vectors

/**
 * The app with a fake camera, and a network that answers what was recorded: TensorFlow Lite for
 * Android does not run here.
 */
class TestApp : FacesApp() {
    val camera = FakeCamera()
    val opened = mutableListOf<Model>()
    var input = ByteArray(0)
    var refusal: ModelException? = null

    override val background = Executor { it.run() }

    override fun openCamera() = camera

    override fun openDetector(model: Model): RetinaFaceDetector {
        refusal?.let { throw it }
        opened += model
        val vector = Vectors.photo("crowd-${model.label}")
        return RetinaFaceDetector(vector.metadata, Recording(vector))
    }

    private inner class Recording(private val vector: Vector) : Network {
        override fun run(input: ByteBuffer, height: Int, width: Int): RawOutputs {
            assertEquals(vector.networkSize, height to width)
            this@TestApp.input = ByteArray(input.remaining()).also { input.duplicate().get(it) }
            return vector.outputs
        }

        override fun close() = Unit
    }
}

@RunWith(RobolectricTestRunner::class)
@Config(application = TestApp::class, sdk = [34], qualifiers = "w400dp-h800dp-xhdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class MainActivityTest {
    private val vector = Vectors.photo("crowd-float32")
    private val crowd: Bitmap by lazy { BitmapFactory.decodeFile(vector.picture!!.path) }
    private val app get() = org.robolectric.RuntimeEnvironment.getApplication() as TestApp
    private lateinit var activity: MainActivity

    @Before
    fun allowCamera() = shadowOf(app).grantPermissions(Manifest.permission.CAMERA)

    @Test
    fun drawsTheBoxesOfACameraFrame() {
        open()
        assertEquals(Facing.FRONT, app.camera.running)
        press(R.id.camera)
        assertEquals(Facing.BACK, app.camera.running)
        app.camera.give(crowdFrame())
        assertTrue(text(R.id.status), text(R.id.status).startsWith("10 faces · "))
        assertBoxesAreDrawn(mirrored = false)
        save("live")
    }

    @Test
    fun mirrorsTheFrontCamera() {
        open()
        app.camera.give(crowdFrame())
        assertBoxesAreDrawn(mirrored = true)
    }

    @Test
    fun showsTheNetworkWhatTheCameraSees() {
        app.opened.clear()
        open()
        press(R.id.model)
        assertEquals(listOf(Model.FLOAT32, Model.INT8), app.opened)
        app.camera.give(crowdFrame())
        // The model is uint8: its input is the picture, but for what YUV with halved colours loses.
        var sum = 0L
        for (i in app.input.indices) {
            val pixel = crowd.getPixel(i / 3 % 640, i / 3 / 640)
            sum += abs((app.input[i].toInt() and 255) - (pixel shr (16 - 8 * (i % 3)) and 255))
        }
        assertTrue("mean difference ${sum.toDouble() / app.input.size}", sum < 4L * app.input.size)
    }

    @Test
    fun countsFrames() {
        open()
        repeat(3) { app.camera.give(crowdFrame()) }
        assertTrue(text(R.id.status), Regex("10 faces · \\d+ ms · \\d+\\.\\d frames/s").matches(text(R.id.status)))
    }

    @Test
    fun findsFacesInAPictureOfTheGallery() {
        open()
        choosePicture(vector.picture!!.readBytes())
        assertNull(app.camera.running)
        assertTrue(text(R.id.status), text(R.id.status).startsWith("10 faces · "))
        assertBoxesAreDrawn(mirrored = false)
        save("picture")
        press(R.id.camera)
        assertEquals(Facing.FRONT, app.camera.running)
    }

    @Test
    fun saysThatAFileIsNoPicture() {
        open()
        choosePicture("not a picture".toByteArray())
        assertTrue(message(), message().startsWith("This file cannot be opened as a picture"))
        choosePicture(vector.picture!!.readBytes().copyOf(20))
        assertTrue(message(), message().startsWith("This file cannot be opened as a picture"))
        save("no-picture")
        choosePicture(vector.picture!!.readBytes())
        assertEquals(View.GONE, activity.findViewById<View>(R.id.message_panel).visibility)
    }

    @Test
    fun saysWhatToDoWhenTheCameraIsRefused() {
        shadowOf(app).denyPermissions(Manifest.permission.CAMERA)
        open()
        assertNull(app.camera.running)
        val answer = intArrayOf(PackageManager.PERMISSION_DENIED)
        activity.onRequestPermissionsResult(1, arrayOf(Manifest.permission.CAMERA), answer)
        assertTrue(message(), message().startsWith("The app may not use the camera"))
        save("refused")
        // The picture still works, and so does the camera once it is allowed.
        choosePicture(vector.picture!!.readBytes())
        assertTrue(text(R.id.status).startsWith("10 faces"))
        shadowOf(app).grantPermissions(Manifest.permission.CAMERA)
        press(R.id.camera)
        assertEquals(Facing.FRONT, app.camera.running)
    }

    @Test
    fun saysThatAModelIsDamaged() {
        val file = File.createTempFile("face", ".tflite")
        val bytes = vector.model!!.readBytes()
        file.writeBytes(bytes.copyOf(bytes.size - 1000))
        app.refusal = try {
            RetinaFaceDetector.fromFile(file).use { error("opened") }
        } catch (error: ModelException) {
            error
        }
        open()
        assertTrue(message(), message().contains("is truncated or damaged"))
        assertNull(app.camera.running)
        save("damaged-model")
    }

    @Test
    fun saysThatThereIsNoCamera() {
        app.camera.facings = emptyList()
        open()
        assertTrue(message(), message().startsWith("This device has no camera"))
    }

    @Test
    fun offersToTryAgainWhenTheCameraStops() {
        open()
        app.camera.fail("another app took it")
        assertEquals("The camera stopped (another app took it). Close other apps that use it and try again.", message())
        press(R.id.message_action)
        assertEquals(Facing.FRONT, app.camera.running)
        app.camera.failure = CameraException("it is broken")
        press(R.id.camera)
        assertTrue(message(), message().startsWith("The camera cannot be used (it is broken)"))
    }

    @Test
    fun keepsItsStateWhenTheScreenTurns() {
        val controller = open()
        press(R.id.model)
        press(R.id.camera)
        controller.recreate()
        activity = controller.get()
        createSurface()
        assertEquals(Model.INT8, app.opened.last())
        assertEquals(Facing.BACK, app.camera.running)
        controller.pause()
        assertNull(app.camera.running)
    }

    private fun open() = Robolectric.buildActivity(MainActivity::class.java).setup().also {
        activity = it.get()
        createSurface()
    }

    /** What the window system does on a device. */
    private fun createSurface() {
        val surface = Surface(SurfaceTexture(0))
        val kinds = arrayOf(SurfaceHolder::class.java)
        val holder = Proxy.newProxyInstance(javaClass.classLoader, kinds) { _, _, _ -> surface } as SurfaceHolder
        activity.surfaceCreated(holder)
    }

    private fun crowdFrame() = cameraFrame(640, 480, 90) { x, y -> crowd.getPixel(x, y) }

    private fun choosePicture(bytes: ByteArray) {
        press(R.id.picture)
        val request = shadowOf(activity).nextStartedActivityForResult.intent
        assertEquals("image/*", request.type)
        val uri = Uri.parse("content://gallery/${bytes.size}")
        shadowOf(activity.contentResolver).registerInputStream(uri, ByteArrayInputStream(bytes))
        shadowOf(activity).receiveResult(request, Activity.RESULT_OK, Intent().setData(uri))
    }

    private fun press(id: Int) = activity.findViewById<Button>(id).performClick()

    private fun text(id: Int) = activity.findViewById<TextView>(id).text.toString()

    private fun message(): String {
        assertEquals(View.VISIBLE, activity.findViewById<View>(R.id.message_panel).visibility)
        return text(R.id.message)
    }

    /** Every edge of the faces that Python found is green, every point yellow, and the view's corners neither. */
    private fun assertBoxesAreDrawn(mirrored: Boolean) {
        val view = activity.findViewById<FacesView>(R.id.faces)
        val drawn = draw(view)
        val fit = FitCenter.of(640, 480, view.width, view.height, mirrored)
        for (face in vector.faces) {
            for ((x, y) in edgeCenters(face)) assertColor(drawn, fit.x(x), fit.y(y), FacesView.BOX_COLOR)
            for (point in face.landmarks) assertColor(drawn, fit.x(point.x), fit.y(point.y), FacesView.POINT_COLOR)
        }
        for (x in listOf(0, view.width - 1)) {
            for (y in listOf(0, view.height - 1)) assertTrue(drawn.getPixel(x, y) in listOf(Color.TRANSPARENT, Color.BLACK))
        }
    }

    private fun edgeCenters(face: Face): List<Pair<Float, Float>> = face.box.run {
        val middleX = (left + right) / 2
        val middleY = (top + bottom) / 2
        listOf(left to middleY, right to middleY, middleX to top, middleX to bottom)
    }

    /** Within a pixel; points and scores of a neighbour may lie over an edge, so no more is asked. */
    private fun assertColor(drawn: Bitmap, x: Float, y: Float, color: Int) {
        val around = (-2..2).flatMap { dy -> (-2..2).map { dx -> (x + dx).toInt() to (y + dy).toInt() } }
            .filter { (px, py) -> px in 0 until drawn.width && py in 0 until drawn.height }
        val found = around.any { (px, py) -> near(drawn.getPixel(px, py), color) }
        assertTrue("no ${Integer.toHexString(color)} at $x, $y", found)
    }

    private fun near(a: Int, b: Int) = listOf(16, 8, 0).all { abs((a shr it and 255) - (b shr it and 255)) < 16 }

    private fun draw(view: View): Bitmap =
        Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888).also { view.draw(Canvas(it)) }

    private fun save(name: String) {
        shadowOf(Looper.getMainLooper()).idle() // lays out what became visible
        val folder = File(System.getProperty("retinaface.pictures") ?: return).apply { mkdirs() }
        val screen = draw(activity.window.decorView)
        File(folder, "$name.png").outputStream().use { screen.compress(Bitmap.CompressFormat.PNG, 100, it) }
    }
}
