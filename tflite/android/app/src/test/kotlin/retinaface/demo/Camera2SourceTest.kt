package retinaface.demo

import android.app.Application
import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import android.util.Size
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.shadows.ShadowCameraCharacteristics
import org.robolectric.shadows.StreamConfigurationMapBuilder

@RunWith(RobolectricTestRunner::class)
@Config(application = Application::class, sdk = [34])
class Camera2SourceTest {
    private val context: Context get() = RuntimeEnvironment.getApplication()

    @Test
    fun tellsHowFramesOfAPhonesCamerasAreSeen() {
        addCamera("0", CameraCharacteristics.LENS_FACING_BACK, 90)
        addCamera("1", CameraCharacteristics.LENS_FACING_FRONT, 270)
        addCamera("2", CameraCharacteristics.LENS_FACING_EXTERNAL, 0)
        val source = Camera2Source(context)
        assertEquals(listOf(Facing.BACK, Facing.FRONT), source.facings)
        assertEquals(FrameFormat(640, 480, 480, 640, mirrored = false), source.format(Facing.BACK, 0))
        assertEquals(FrameFormat(640, 480, 640, 480, mirrored = false), source.format(Facing.BACK, 90))
        assertEquals(FrameFormat(640, 480, 480, 640, mirrored = true), source.format(Facing.FRONT, 180))
        assertEquals(FrameFormat(640, 480, 640, 480, mirrored = true), source.format(Facing.FRONT, 270))
    }

    @Test
    fun takesTheSizeNearestToTheNetworksThatCanBeShownAndRead() {
        addCamera(
            "0",
            CameraCharacteristics.LENS_FACING_BACK,
            90,
            shown = listOf(Size(1920, 1080), Size(800, 600), Size(176, 144)),
            read = listOf(Size(1920, 1080), Size(640, 480), Size(800, 600)),
        )
        assertEquals(FrameFormat(800, 600, 600, 800, mirrored = false), Camera2Source(context).format(Facing.BACK, 0))
    }

    @Test
    fun saysThatThereIsNoSuchCamera() {
        val source = Camera2Source(context)
        assertEquals(emptyList<Facing>(), source.facings)
        assertThrows(CameraException::class.java) { source.format(Facing.BACK, 0) }
        source.stop()
    }

    private fun addCamera(
        id: String,
        facing: Int,
        orientation: Int,
        shown: List<Size> = listOf(Size(1920, 1080), Size(640, 480), Size(320, 240)),
        read: List<Size> = shown,
    ) {
        val sizes = StreamConfigurationMapBuilder.newBuilder()
        shown.forEach { sizes.addOutputSize(it) }
        read.forEach { sizes.addOutputSize(ImageFormat.YUV_420_888, it) }
        val characteristics = ShadowCameraCharacteristics.newCameraCharacteristics()
        shadowOf(characteristics).apply {
            set(CameraCharacteristics.LENS_FACING, facing)
            set(CameraCharacteristics.SENSOR_ORIENTATION, orientation)
            set(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP, sizes.build())
        }
        val manager = context.getSystemService(Context.CAMERA_SERVICE) as CameraManager
        shadowOf(manager).addCamera(id, characteristics)
    }
}
