# fish completion for virtceph. Generated from the contract; do not edit.

# The namespace, the verb and the parameters said so far, one a line.
function __virtceph_said
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip -eq 1
            set skip 0
            continue
        end
        switch $word
            case --socket --timeout -f --label --name --freeze --keep --keep-daily --keep-weekly --keep-monthly --at-once --slot-dir --slot-wait --clones --connect --ceph-conf --libvirt-dir --key-file --credential --user --monitors --usage-id --since --types
                set skip 1
            case '-*'
            case '*'
                echo $word
        end
    end
end

# True where exactly these words were said, or these two and any parameters.
function __virtceph_after
    set -l said (__virtceph_said)
    if test (count $argv) -lt 2
        test (count $said) -eq (count $argv); and test "$said" = "$argv"
    else
        test (count $said) -ge 2; and test "$said[1..2]" = "$argv"
    end
end

# __virtceph_ask PARAMETER FIELD NAMESPACE VERB: `PARAMETER=value` for each of the daemon's answers.
function __virtceph_ask
    set -l line '^ *"'$argv[2]'": "([^"\\\\]*)",?$'
    command virtceph --timeout 2 $argv[3..4] 2>/dev/null |
        string replace -rf $line $argv[1]'=$1'
end

# True after a command, whatever was said behind it.
function __virtceph_in
    set -l said (__virtceph_said)
    test (count $said) -ge 1; and test "$said[1]" = $argv[1]
end

# __virtceph_list FIELD WORDS…: that field of each of the daemon's answers.
function __virtceph_list
    set -l line '^ *"'$argv[1]'": "([^"\\\\]*)",?$'
    command virtceph --timeout 2 $argv[2..-1] 2>/dev/null | string replace -rf $line '$1'
end

function __virtceph_vms
    __virtceph_list name Host getVMList
end

function __virtceph_jobs
    __virtceph_list id Host getJobs
end

function __virtceph_sets
    set -l current (commandline -ct)
    if string match -q '*@*' -- $current
        set -l vm (string replace -r '@[^@]*$' '' -- $current)
        for name in (__virtceph_list snapshotName snapshots $vm --json)
            echo $vm@$name
        end
    else
        for vm in (__virtceph_vms)
            echo $vm@
        end
    end
end

complete -c virtceph -f
complete -c virtceph -s h -l help -d 'Show help'
complete -c virtceph -l version -d 'Show the version'
complete -c virtceph -l socket -r -F -d 'The socket of the daemon'
complete -c virtceph -l timeout -x -d 'Seconds to wait'
complete -c virtceph -l human -d 'Tables instead of JSON'
complete -c virtceph -l wait -d 'Wait for the end of the job'
complete -c virtceph -s f -r -F -d 'Read the parameters from a file'
complete -c virtceph -n '__virtceph_after' -a Host
complete -c virtceph -n '__virtceph_after Host' -a ping2 -d "Say that the daemon is alive. Asks neither libvirt nor Ceph."
complete -c virtceph -n '__virtceph_after Host' -a echo -d "Answer the message."
complete -c virtceph -n '__virtceph_after Host echo' -a 'message='
complete -c virtceph -n '__virtceph_after Host' -a getCapabilities -d "Tell the versions and what this host and build can do."
complete -c virtceph -n '__virtceph_after Host' -a getVMList -d "List the VMs of this host."
complete -c virtceph -n '__virtceph_after Host getVMList' -a '"fullStatus=true" "fullStatus=false"'
complete -c virtceph -n '__virtceph_after Host getVMList' -a 'vmList='
complete -c virtceph -n '__virtceph_after Host getVMList' -a '"onlyUUID=true" "onlyUUID=false"'
complete -c virtceph -n '__virtceph_after Host' -a getJobs -d "Tell how jobs stand."
complete -c virtceph -n '__virtceph_after Host getJobs' -a 'job_type='
complete -c virtceph -n '__virtceph_after Host getJobs' -a 'job_ids='
complete -c virtceph -n '__virtceph_after Host' -a registerSecrets -d "Make keys known to libvirt as ephemeral, private secrets."
complete -c virtceph -n '__virtceph_after Host registerSecrets' -a 'secrets='
complete -c virtceph -n '__virtceph_after Host registerSecrets' -a '"clear=true" "clear=false"'
complete -c virtceph -n '__virtceph_after Host' -a unregisterSecrets -d "Remove secrets."
complete -c virtceph -n '__virtceph_after Host unregisterSecrets' -a 'uuids='
complete -c virtceph -n '__virtceph_after Host' -a listSecrets -d "List the registered secrets, without their values."
complete -c virtceph -n '__virtceph_after' -a Job
complete -c virtceph -n '__virtceph_after Job' -a abort -d "Tell a job to stop."
complete -c virtceph -n '__virtceph_after Job abort' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after Job' -a delete -d "Forget a job that has ended."
complete -c virtceph -n '__virtceph_after Job delete' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after' -a VM
complete -c virtceph -n '__virtceph_after VM' -a getInfo -d "Tell a VM's state, its agent and its disks."
complete -c virtceph -n '__virtceph_after VM getInfo' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM' -a freeze -d "Freeze the mounted file systems of a running VM, for a limited time."
complete -c virtceph -n '__virtceph_after VM freeze' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM freeze' -a 'timeout='
complete -c virtceph -n '__virtceph_after VM' -a extendFreeze -d "Let a freeze last longer."
complete -c virtceph -n '__virtceph_after VM extendFreeze' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM extendFreeze' -a 'timeout='
complete -c virtceph -n '__virtceph_after VM' -a thaw -d "Thaw the file systems of a VM."
complete -c virtceph -n '__virtceph_after VM thaw' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM thaw' -a '"force=true" "force=false"'
complete -c virtceph -n '__virtceph_after VM' -a getFreezeStatus -d "Tell whether a guest is frozen, since when and by whom."
complete -c virtceph -n '__virtceph_after VM getFreezeStatus' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM' -a snapshot -d "Snapshot a VM's disks, and its memory if wanted, as a job."
complete -c virtceph -n '__virtceph_after VM snapshot' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM snapshot' -a 'snapDrives='
complete -c virtceph -n '__virtceph_after VM snapshot' -a 'snapMemory='
complete -c virtceph -n '__virtceph_after VM snapshot' -a '"frozen=true" "frozen=false"'
complete -c virtceph -n '__virtceph_after VM snapshot' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after VM snapshot' -a 'timeout='
complete -c virtceph -n '__virtceph_after VM snapshot' -a 'freeze_timeout='
complete -c virtceph -n '__virtceph_after VM' -a createConsistentSnapshot -d "Snapshot a VM's disks together under one short freeze, as a job."
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'disks='
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a '"freeze=required" "freeze=preferred" "freeze=no"'
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a '"method=parallel" "method=group"'
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'maxFrozen='
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'memoryPath='
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'description='
complete -c virtceph -n '__virtceph_after VM createConsistentSnapshot' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after VM' -a listConsistentSnapshots -d "List the sets of snapshots of a VM, oldest first."
complete -c virtceph -n '__virtceph_after VM listConsistentSnapshots' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM' -a deleteConsistentSnapshot -d "Delete a set of snapshots, as a job."
complete -c virtceph -n '__virtceph_after VM deleteConsistentSnapshot' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM deleteConsistentSnapshot' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after VM deleteConsistentSnapshot' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after VM' -a pruneConsistentSnapshots -d "Delete a VM's sets of snapshots but those that are to be kept."
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a 'keepLast='
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a 'keepDaily='
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a 'keepWeekly='
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a 'keepMonthly='
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a 'namePrefix='
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a 'label='
complete -c virtceph -n '__virtceph_after VM pruneConsistentSnapshots' -a '"dryRun=true" "dryRun=false"'
complete -c virtceph -n '__virtceph_after VM' -a restoreConsistentSnapshot -d "Restore a set of snapshots, as a job."
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a '"into=rollback" "into=clones"'
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a 'clonePrefix='
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a '"withMemory=true" "withMemory=false"'
complete -c virtceph -n '__virtceph_after VM restoreConsistentSnapshot' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after VM' -a getDiskXML -d "Tell a volume's `<disk>` as libvirt takes it."
complete -c virtceph -n '__virtceph_after VM getDiskXML' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM getDiskXML' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after VM getDiskXML' -a 'volumeName='
complete -c virtceph -n '__virtceph_after VM getDiskXML' -a 'target='
complete -c virtceph -n '__virtceph_after VM getDiskXML' -a '"bus=virtio" "bus=scsi" "bus=sata"'
complete -c virtceph -n '__virtceph_after VM' -a hotplugDisk -d "Plug a volume into a running VM."
complete -c virtceph -n '__virtceph_after VM hotplugDisk' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM hotplugDisk' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after VM hotplugDisk' -a 'volumeName='
complete -c virtceph -n '__virtceph_after VM hotplugDisk' -a 'target='
complete -c virtceph -n '__virtceph_after VM hotplugDisk' -a '"bus=virtio" "bus=scsi" "bus=sata"'
complete -c virtceph -n '__virtceph_after VM hotplugDisk' -a 'xml='
complete -c virtceph -n '__virtceph_after VM hotplugDisk' -a 'params='
complete -c virtceph -n '__virtceph_after VM' -a hotunplugDisk -d "Unplug a disk from a running VM."
complete -c virtceph -n '__virtceph_after VM hotunplugDisk' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM hotunplugDisk' -a 'disk='
complete -c virtceph -n '__virtceph_after VM hotunplugDisk' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after VM hotunplugDisk' -a 'volumeName='
complete -c virtceph -n '__virtceph_after VM hotunplugDisk' -a 'xml='
complete -c virtceph -n '__virtceph_after VM hotunplugDisk' -a 'params='
complete -c virtceph -n '__virtceph_after VM' -a diskSizeExtend -d "Make a disk of a running VM larger, image and guest alike."
complete -c virtceph -n '__virtceph_after VM diskSizeExtend' -a '(__virtceph_ask vmID name Host getVMList)'
complete -c virtceph -n '__virtceph_after VM diskSizeExtend' -a 'disk='
complete -c virtceph -n '__virtceph_after VM diskSizeExtend' -a 'driveSpecs='
complete -c virtceph -n '__virtceph_after VM diskSizeExtend' -a 'newSize='
complete -c virtceph -n '__virtceph_after' -a StorageDomain
complete -c virtceph -n '__virtceph_after StorageDomain' -a connect -d "Connect to a pool of a Ceph cluster with a registered key."
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'name='
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'monitors='
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'user='
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'secretUUID='
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'pool='
complete -c virtceph -n '__virtceph_after StorageDomain connect' -a 'namespace='
complete -c virtceph -n '__virtceph_after StorageDomain' -a disconnect -d "Close the connection to a storage domain. Running VMs keep theirs."
complete -c virtceph -n '__virtceph_after StorageDomain disconnect' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after StorageDomain' -a list -d "List the connected storage domains."
complete -c virtceph -n '__virtceph_after StorageDomain' -a getStats -d "Tell whether a storage domain is reachable, its latency, room and health."
complete -c virtceph -n '__virtceph_after StorageDomain getStats' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after' -a Volume
complete -c virtceph -n '__virtceph_after Volume' -a create -d "Create an RBD image."
complete -c virtceph -n '__virtceph_after Volume create' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume create' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume create' -a 'size='
complete -c virtceph -n '__virtceph_after Volume create' -a 'objectSize='
complete -c virtceph -n '__virtceph_after Volume create' -a '"features=layering" "features=exclusive-lock" "features=object-map" "features=fast-diff" "features=deep-flatten"'
complete -c virtceph -n '__virtceph_after Volume create' -a 'dataPool='
complete -c virtceph -n '__virtceph_after Volume create' -a 'qos='
complete -c virtceph -n '__virtceph_after Volume' -a clone -d "Make a new image that begins as a snapshot of another, and shares with it what neither has written since."
complete -c virtceph -n '__virtceph_after Volume clone' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume clone' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume clone' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after Volume clone' -a 'newName='
complete -c virtceph -n '__virtceph_after Volume clone' -a 'newStorageDomainID='
complete -c virtceph -n '__virtceph_after Volume' -a rename -d "Rename an image that nobody has open."
complete -c virtceph -n '__virtceph_after Volume rename' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume rename' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume rename' -a 'newName='
complete -c virtceph -n '__virtceph_after Volume' -a getInfo -d "Tell an image's size, layout, relations, users, limits and metadata."
complete -c virtceph -n '__virtceph_after Volume getInfo' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume getInfo' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume' -a list -d "List images and their sizes, in the order of their names."
complete -c virtceph -n '__virtceph_after Volume list' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume list' -a 'limit='
complete -c virtceph -n '__virtceph_after Volume list' -a 'after='
complete -c virtceph -n '__virtceph_after Volume' -a setQos -d "Set the limits of an image, at once, also while a VM has it open."
complete -c virtceph -n '__virtceph_after Volume setQos' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume setQos' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume setQos' -a 'qos='
complete -c virtceph -n '__virtceph_after Volume' -a getQos -d "Tell the limits of an image, and those of its pool."
complete -c virtceph -n '__virtceph_after Volume getQos' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume getQos' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume' -a extendSize -d "Make an image larger."
complete -c virtceph -n '__virtceph_after Volume extendSize' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume extendSize' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume extendSize' -a 'newSize='
complete -c virtceph -n '__virtceph_after Volume' -a createSnapshot -d "Snapshot one image."
complete -c virtceph -n '__virtceph_after Volume createSnapshot' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume createSnapshot' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume createSnapshot' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after Volume' -a deleteSnapshot -d "Delete one snapshot of an image."
complete -c virtceph -n '__virtceph_after Volume deleteSnapshot' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume deleteSnapshot' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume deleteSnapshot' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after Volume' -a listSnapshots -d "List the snapshots of an image, oldest first, with their clones."
complete -c virtceph -n '__virtceph_after Volume listSnapshots' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume listSnapshots' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume' -a rollback -d "Bring an image that nobody has open back to a snapshot."
complete -c virtceph -n '__virtceph_after Volume rollback' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume rollback' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume rollback' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after Volume' -a delete -d "Delete an RBD image that nobody has open and that has no snapshots."
complete -c virtceph -n '__virtceph_after Volume delete' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume delete' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume delete' -a '"force=true" "force=false"'
complete -c virtceph -n '__virtceph_after Volume' -a explainDelete -d "Tell why an image cannot be deleted, and the steps that would make it possible."
complete -c virtceph -n '__virtceph_after Volume explainDelete' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume explainDelete' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume' -a trash -d "Put an image that nobody has open into the trash."
complete -c virtceph -n '__virtceph_after Volume trash' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume trash' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume trash' -a 'delay='
complete -c virtceph -n '__virtceph_after Volume' -a restore -d "Give an image in the trash a name again."
complete -c virtceph -n '__virtceph_after Volume restore' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume restore' -a 'id='
complete -c virtceph -n '__virtceph_after Volume restore' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume restore' -a 'newName='
complete -c virtceph -n '__virtceph_after Volume' -a listTrash -d "List what is in the trash, the oldest first."
complete -c virtceph -n '__virtceph_after Volume listTrash' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume' -a purge -d "Remove an image in the trash for good, or all whose time has come."
complete -c virtceph -n '__virtceph_after Volume purge' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume purge' -a 'id='
complete -c virtceph -n '__virtceph_after Volume purge' -a '"force=true" "force=false"'
complete -c virtceph -n '__virtceph_after Volume' -a evict -d "Break the lock that a dead client left on an image, and cut that client off."
complete -c virtceph -n '__virtceph_after Volume evict' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume evict' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume evict' -a 'client='
complete -c virtceph -n '__virtceph_after Volume evict' -a '"confirm=true" "confirm=false"'
complete -c virtceph -n '__virtceph_after Volume' -a copy -d "Start a job that copies a volume, to another name, storage domain or cluster."
complete -c virtceph -n '__virtceph_after Volume copy' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume copy' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume copy' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after Volume copy' -a 'newName='
complete -c virtceph -n '__virtceph_after Volume copy' -a 'newStorageDomainID='
complete -c virtceph -n '__virtceph_after Volume copy' -a '"withSnapshots=true" "withSnapshots=false"'
complete -c virtceph -n '__virtceph_after Volume copy' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after Volume' -a move -d "Start a job that moves a volume that nobody has open, with its snapshots."
complete -c virtceph -n '__virtceph_after Volume move' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume move' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume move' -a 'newName='
complete -c virtceph -n '__virtceph_after Volume move' -a 'newStorageDomainID='
complete -c virtceph -n '__virtceph_after Volume move' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after Volume' -a flatten -d "Start a job that makes a clone independent of its parent."
complete -c virtceph -n '__virtceph_after Volume flatten' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume flatten' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume flatten' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after Volume' -a export -d "Start a job that writes a volume to a file or a block device."
complete -c virtceph -n '__virtceph_after Volume export' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume export' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume export' -a 'path='
complete -c virtceph -n '__virtceph_after Volume export' -a '"format=raw" "format=qcow2"'
complete -c virtceph -n '__virtceph_after Volume export' -a 'snapshotName='
complete -c virtceph -n '__virtceph_after Volume export' -a '"checksum=true" "checksum=false"'
complete -c virtceph -n '__virtceph_after Volume export' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after Volume' -a import -d "Start a job that makes a volume of a file or a block device."
complete -c virtceph -n '__virtceph_after Volume import' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume import' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume import' -a 'path='
complete -c virtceph -n '__virtceph_after Volume import' -a '"format=raw" "format=qcow2"'
complete -c virtceph -n '__virtceph_after Volume import' -a '"checksum=true" "checksum=false"'
complete -c virtceph -n '__virtceph_after Volume import' -a 'objectSize='
complete -c virtceph -n '__virtceph_after Volume import' -a '"features=layering" "features=exclusive-lock" "features=object-map" "features=fast-diff" "features=deep-flatten"'
complete -c virtceph -n '__virtceph_after Volume import' -a 'dataPool='
complete -c virtceph -n '__virtceph_after Volume import' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after Volume' -a exportDiff -d "Start a job that writes what changed in a volume between two snapshots to a file."
complete -c virtceph -n '__virtceph_after Volume exportDiff' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume exportDiff' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume exportDiff' -a 'fromSnapshot='
complete -c virtceph -n '__virtceph_after Volume exportDiff' -a 'toSnapshot='
complete -c virtceph -n '__virtceph_after Volume exportDiff' -a 'path='
complete -c virtceph -n '__virtceph_after Volume exportDiff' -a '"manifest=true" "manifest=false"'
complete -c virtceph -n '__virtceph_after Volume exportDiff' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after Volume' -a importDiff -d "Start a job that applies a diff to a volume, or makes a volume of one that begins at nothing."
complete -c virtceph -n '__virtceph_after Volume importDiff' -a '(__virtceph_ask storageDomainID storageDomainID StorageDomain list)'
complete -c virtceph -n '__virtceph_after Volume importDiff' -a 'volumeName='
complete -c virtceph -n '__virtceph_after Volume importDiff' -a 'path='
complete -c virtceph -n '__virtceph_after Volume importDiff' -a '"verify=true" "verify=false"'
complete -c virtceph -n '__virtceph_after Volume importDiff' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after Volume' -a mergeDiffs -d "Start a job that makes one diff of consecutive ones."
complete -c virtceph -n '__virtceph_after Volume mergeDiffs' -a 'paths='
complete -c virtceph -n '__virtceph_after Volume mergeDiffs' -a 'path='
complete -c virtceph -n '__virtceph_after Volume mergeDiffs' -a 'jobUUID='
complete -c virtceph -n '__virtceph_after' -a status -d "how things stand"
complete -c virtceph -n '__virtceph_in status' -a '(__virtceph_vms)'
complete -c virtceph -n '__virtceph_in status' -l json
complete -c virtceph -n '__virtceph_in status' -l timeout -x
complete -c virtceph -n '__virtceph_after' -a snapshot -d "take a consistent snapshot"
complete -c virtceph -n '__virtceph_in snapshot' -a '(__virtceph_vms)'
complete -c virtceph -n '__virtceph_in snapshot' -l json
complete -c virtceph -n '__virtceph_in snapshot' -l timeout -x
complete -c virtceph -n '__virtceph_in snapshot' -l all
complete -c virtceph -n '__virtceph_in snapshot' -l allow-crash
complete -c virtceph -n '__virtceph_in snapshot' -l skip-off
complete -c virtceph -n '__virtceph_in snapshot' -l label -x
complete -c virtceph -n '__virtceph_in snapshot' -l name -x
complete -c virtceph -n '__virtceph_in snapshot' -l freeze -x
complete -c virtceph -n '__virtceph_in snapshot' -l keep -x
complete -c virtceph -n '__virtceph_in snapshot' -l keep-daily -x
complete -c virtceph -n '__virtceph_in snapshot' -l keep-weekly -x
complete -c virtceph -n '__virtceph_in snapshot' -l keep-monthly -x
complete -c virtceph -n '__virtceph_in snapshot' -l at-once -x
complete -c virtceph -n '__virtceph_in snapshot' -l slot-dir -x
complete -c virtceph -n '__virtceph_in snapshot' -l slot-wait -x
complete -c virtceph -n '__virtceph_after' -a snapshots -d "the sets of snapshots of a VM"
complete -c virtceph -n '__virtceph_in snapshots' -a '(__virtceph_vms)'
complete -c virtceph -n '__virtceph_in snapshots' -l json
complete -c virtceph -n '__virtceph_in snapshots' -l timeout -x
complete -c virtceph -n '__virtceph_after' -a restore -d "bring a VM that is off back to a set"
complete -c virtceph -n '__virtceph_in restore' -a '(__virtceph_sets)'
complete -c virtceph -n '__virtceph_in restore' -l json
complete -c virtceph -n '__virtceph_in restore' -l timeout -x
complete -c virtceph -n '__virtceph_in restore' -l yes
complete -c virtceph -n '__virtceph_in restore' -l dry-run
complete -c virtceph -n '__virtceph_in restore' -l no-safety
complete -c virtceph -n '__virtceph_in restore' -l without-memory
complete -c virtceph -n '__virtceph_in restore' -l clones -x
complete -c virtceph -n '__virtceph_after' -a jobs -d "what the daemon does and did"
complete -c virtceph -n '__virtceph_in jobs' -a '(__virtceph_jobs)'
complete -c virtceph -n '__virtceph_in jobs' -l json
complete -c virtceph -n '__virtceph_in jobs' -l timeout -x
complete -c virtceph -n '__virtceph_in jobs' -l watch
complete -c virtceph -n '__virtceph_in jobs' -l all
complete -c virtceph -n '__virtceph_after' -a doctor -d "what is well and what is not on this host"
complete -c virtceph -n '__virtceph_in doctor' -l json
complete -c virtceph -n '__virtceph_in doctor' -l suggest
complete -c virtceph -n '__virtceph_in doctor' -l quiet
complete -c virtceph -n '__virtceph_in doctor' -l connect -x
complete -c virtceph -n '__virtceph_in doctor' -l ceph-conf -rF
complete -c virtceph -n '__virtceph_in doctor' -l libvirt-dir -rF
complete -c virtceph -n '__virtceph_after' -a adopt-secret -d "make a persistent secret an ephemeral one"
complete -c virtceph -n '__virtceph_in adopt-secret' -l forget
complete -c virtceph -n '__virtceph_in adopt-secret' -l yes
complete -c virtceph -n '__virtceph_in adopt-secret' -l key-file -rF
complete -c virtceph -n '__virtceph_in adopt-secret' -l credential -rF
complete -c virtceph -n '__virtceph_in adopt-secret' -l user -x
complete -c virtceph -n '__virtceph_in adopt-secret' -l monitors -x
complete -c virtceph -n '__virtceph_in adopt-secret' -l usage-id -x
complete -c virtceph -n '__virtceph_in adopt-secret' -l connect -x
complete -c virtceph -n '__virtceph_in adopt-secret' -l libvirt-dir -rF
complete -c virtceph -n '__virtceph_after' -a events -d "what the daemon tells, as it happens"
complete -c virtceph -n '__virtceph_in events' -l json
complete -c virtceph -n '__virtceph_in events' -l since -x
complete -c virtceph -n '__virtceph_in events' -l types -x
complete -c virtceph -n '__virtceph_in events' -l no-follow
complete -c virtceph -n '__virtceph_after' -a pki -d "certificates for hosts and callers"
complete -c virtceph -n '__virtceph_after pki' -a 'init host client renew show'
complete -c virtceph -n '__virtceph_after' -a completion -d "a completion script for a shell"
complete -c virtceph -n '__virtceph_after completion' -a 'bash zsh fish'
