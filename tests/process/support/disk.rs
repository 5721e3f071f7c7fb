//! Disks whose power can be cut: an ext4 filesystem in a file, on a loop device.
//!
//! The cut is the filesystem's own shutdown: from then on every operation fails, and nothing that was not yet written to the
//! device ever is. What was written to the device counts as durable, flushed or not: a disk's own cache cannot be lost
//! here.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The image takes as much of the real disk as is written to it.
const SIZE_BYTES: u64 = 256 << 20;
/// Shuts the filesystems that hold these paths down: `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, of the kernel's
/// include/uapi/linux/ext4.h. In Perl, since an ioctl in Rust is unsafe, and Debian is never without it.
const SHUTDOWN: &str = r#"for my $path (@ARGV) {
    open(my $folder, "<", $path) or die "$path: $!\n";
    my $flags = pack("L", 2);
    ioctl($folder, 0x8004587d, $flags) or die "$path: $!\n";
}"#;
/// What the kernel answers after the cut.
const EIO: i32 = 5;
const SYNCED: &str = "synced";
const UNSYNCED: &str = "unsynced";

/// A mounted disk. It is unmounted when dropped, whoever still uses it.
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// A new disk on this empty folder; its image is a new file of this name. What it cannot do, it says in words.
    pub fn make(image: &Path, mount: &Path) -> Result<Disk, String> {
        let words = |error: std::io::Error| format!("{}: {error}", image.display());
        File::create_new(image).and_then(|file| file.set_len(SIZE_BYTES)).map_err(words)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image))?;
        fs::create_dir_all(mount).map_err(words)?;
        let disk = Disk { image: image.into(), mount: mount.into() };
        disk.attach()?;
        // Nothing but the node's files is to be in its folder.
        fs::remove_dir(mount.join("lost+found")).map_err(words)?;
        Ok(disk)
    }

    /// The device goes with the mount.
    fn attach(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).args([&self.image, &self.mount]))
    }

    /// Power is back: the disk's journal is replayed. Nobody may use it meanwhile.
    pub fn remount(&self) {
        let unmounted = run(Command::new("umount").arg(&self.mount));
        unmounted.and_then(|()| self.attach()).expect("the disk comes back");
    }

    /// Writes a file that must survive a cut, and one that nobody waits for.
    fn mark(&self) {
        let write = |name: &str| -> std::io::Result<File> {
            let mut file = File::create_new(self.mount.join(name))?;
            file.write_all(name.as_bytes())?;
            Ok(file)
        };
        write(SYNCED).and_then(|file| file.sync_all()).expect("a file is written and synced");
        File::open(&self.mount).and_then(|folder| folder.sync_all()).expect("its name is synced");
        write(UNSYNCED).expect("a file is written");
    }

    /// After power is back: whether the file was lost that nobody waited for. The other one must be there.
    pub fn lost_what_was_not_synced(&self) -> bool {
        let read = |name: &str| {
            let path = self.mount.join(name);
            let content = fs::read(&path);
            content.is_ok().then(|| fs::remove_file(&path).expect("the file can be removed"));
            content.is_ok_and(|content| content == name.as_bytes())
        };
        assert!(read(SYNCED), "{}: what was synced has survived", self.mount.display());
        !read(UNSYNCED)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Detached at once, and gone when the last process has left it.
        let _ = run(Command::new("umount").arg("-l").arg(&self.mount));
    }
}

/// Cuts the power of all these disks at once, and checks that it is gone.
pub fn cut(disks: &[&Disk]) {
    shut_down(disks).expect("the power is cut");
}

fn shut_down(disks: &[&Disk]) -> Result<(), String> {
    disks.iter().for_each(|disk| disk.mark());
    run(Command::new("perl").args(["-e", SHUTDOWN]).args(disks.iter().map(|disk| &disk.mount)))?;
    for disk in disks {
        let error = File::create(disk.mount.join("after")).expect_err("the disk takes nothing any more");
        assert_eq!(error.raw_os_error(), Some(EIO), "{}: {error}", disk.mount.display());
    }
    Ok(())
}

/// Why disks like these cannot be had here, if they cannot: found out by cutting one.
pub fn unavailable() -> Option<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Disk::make(&folder.path().join("image"), &folder.path().join("mount"));
    disk.and_then(|disk| shut_down(&[&disk])).err()
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run {name}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
