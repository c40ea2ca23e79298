"""The dense 3D branch: topology, camera, light, renderer."""
