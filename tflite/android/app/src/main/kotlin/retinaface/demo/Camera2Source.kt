package retinaface.demo

import android.annotation.SuppressLint
import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureRequest
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.os.Looper
import android.util.Size
import android.view.Surface
import android.view.SurfaceHolder
import kotlin.math.abs
import retinaface.YuvPicture

/** The device's cameras by the platform's Camera2. */
class Camera2Source(context: Context) : FrameSource {
    private val manager = context.getSystemService(CameraManager::class.java)
    private val main = Handler(Looper.getMainLooper())
    private val cameras: Map<Facing, String> by lazy { findCameras() }
    private var running: Running? = null

    override val facings: List<Facing> get() = cameras.keys.toList()

    override fun format(facing: Facing, displayRotation: Int): FrameFormat = attempt {
        val camera = manager.getCameraCharacteristics(id(facing))
        val size = chooseSize(camera)
        val turned = uprightRotation(camera, facing, displayRotation) % 180 != 0
        FrameFormat(
            bufferWidth = size.width,
            bufferHeight = size.height,
            width = if (turned) size.height else size.width,
            height = if (turned) size.width else size.height,
            mirrored = facing == Facing.FRONT,
        )
    }

    override fun start(facing: Facing, displayRotation: Int, preview: Surface, listener: FrameSource.Listener) {
        stop()
        attempt {
            val camera = manager.getCameraCharacteristics(id(facing))
            val rotation = uprightRotation(camera, facing, displayRotation)
            running = Running(chooseSize(camera), rotation, preview, listener).also { it.open(id(facing)) }
        }
    }

    override fun stop() {
        running?.close()
        running = null
    }

    private fun findCameras(): Map<Facing, String> = attempt {
        val found = linkedMapOf<Facing, String>()
        for (id in manager.cameraIdList) {
            val facing = when (manager.getCameraCharacteristics(id).get(CameraCharacteristics.LENS_FACING)) {
                CameraCharacteristics.LENS_FACING_FRONT -> Facing.FRONT
                CameraCharacteristics.LENS_FACING_BACK -> Facing.BACK
                else -> continue
            }
            found.putIfAbsent(facing, id)
        }
        found
    }

    private fun id(facing: Facing) = cameras[facing] ?: throw CameraException("there is no such camera")

    private fun chooseSize(camera: CameraCharacteristics): Size {
        val map = camera.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP)
        val shown = map?.getOutputSizes(SurfaceHolder::class.java).orEmpty().toSet()
        val read = map?.getOutputSizes(ImageFormat.YUV_420_888).orEmpty()
        return read.filter { it in shown }.minByOrNull { distance(it) } ?: throw CameraException("it gives no pictures")
    }

    /** The network sees 640 x 480, so larger frames cost time and show nothing more. */
    private fun distance(size: Size) = abs(size.width - 640) + abs(size.height - 480)

    private fun uprightRotation(camera: CameraCharacteristics, facing: Facing, displayRotation: Int): Int {
        val sensor = camera.get(CameraCharacteristics.SENSOR_ORIENTATION) ?: 0
        return uprightRotation(sensor, displayRotation, facing)
    }

    private fun <T> attempt(action: () -> T): T =
        try {
            action()
        } catch (error: CameraAccessException) {
            throw CameraException(error.message ?: "access", error)
        } catch (error: SecurityException) {
            throw CameraException("the permission is missing", error)
        } catch (error: IllegalArgumentException) {
            throw CameraException("it was unplugged or is not supported", error)
        }

    /** A camera from its opening to its end. Everything but [close] happens in its own thread. */
    private inner class Running(
        size: Size,
        private val rotation: Int,
        private val preview: Surface,
        private val listener: FrameSource.Listener,
    ) {
        private val thread = HandlerThread("camera").apply { start() }
        private val handler = Handler(thread.looper)
        private val reader = ImageReader.newInstance(size.width, size.height, ImageFormat.YUV_420_888, 2)
        private var device: CameraDevice? = null

        // Until the system has answered; it may hand over a camera that nobody wants any more.
        private var opening = true

        @Volatile private var closed = false

        @SuppressLint("MissingPermission") // attempt() answers for it
        fun open(id: String) {
            reader.setOnImageAvailableListener({ takeFrame() }, handler)
            try {
                manager.openCamera(id, deviceCallback, handler)
            } catch (error: Exception) {
                closed = true
                release()
                throw error
            }
        }

        fun close() {
            closed = true
            handler.post { if (!opening) release() }
        }

        private fun release() {
            device?.close()
            reader.close()
            thread.quitSafely()
        }

        private fun takeFrame() {
            if (closed) return
            val image = reader.acquireLatestImage() ?: return
            val nanos = image.timestamp
            val frame = image.use { YuvPicture.copyOf(it, rotation) }
            listener.onFrame(frame, nanos)
        }

        private fun fail(reason: String) {
            main.post { if (!closed) listener.onFailure(reason) }
        }

        private val deviceCallback = object : CameraDevice.StateCallback() {
            override fun onOpened(camera: CameraDevice) {
                opening = false
                device = camera
                if (closed) {
                    release()
                    return
                }
                try {
                    @Suppress("DEPRECATION") // its successor begins with API 28
                    camera.createCaptureSession(listOf(preview, reader.surface), sessionCallback, handler)
                } catch (error: Exception) { // the surface may be gone by now, or the camera
                    fail(error.message ?: "no session")
                }
            }

            override fun onDisconnected(camera: CameraDevice) = lose(camera, "another app took it")

            override fun onError(camera: CameraDevice, error: Int) = lose(camera, "error $error")

            private fun lose(camera: CameraDevice, reason: String) {
                val unwanted = opening && closed
                opening = false
                camera.close()
                if (unwanted) release() else fail(reason)
            }
        }

        private val sessionCallback = object : CameraCaptureSession.StateCallback() {
            override fun onConfigured(session: CameraCaptureSession) {
                try {
                    val request = session.device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
                    request.addTarget(preview)
                    request.addTarget(reader.surface)
                    request.set(CaptureRequest.CONTROL_AF_MODE, CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_VIDEO)
                    session.setRepeatingRequest(request.build(), null, handler)
                } catch (error: Exception) {
                    if (!closed) fail(error.message ?: "no frames")
                }
            }

            override fun onConfigureFailed(session: CameraCaptureSession) = fail("no session")
        }
    }
}

/**
 * Degrees clockwise that turn a camera's frame upright on the screen.
 *
 * @param sensor of the sensor to the device's natural orientation (`SENSOR_ORIENTATION`).
 * @param display of the screen from its natural orientation.
 */
fun uprightRotation(sensor: Int, display: Int, facing: Facing): Int =
    (if (facing == Facing.FRONT) sensor + display else sensor - display + 360) % 360
