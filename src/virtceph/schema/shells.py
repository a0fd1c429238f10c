"""The fixed parts of the completion scripts, one template for each shell."""

from __future__ import annotations

from string import Template

BASH = Template(r"""# bash completion for virtceph. Generated from the contract; do not edit.

_virtceph_verbs() {
    case $$1 in
$verbs
    esac
}

_virtceph_params() {
    case $$1 in
$params
    esac
}

_virtceph_ask() {
    command virtceph --timeout 2 "$${_virtceph_socket[@]}" "$$@" 2>/dev/null
}

_virtceph_values() {
    case $$1 in
$values
    esac
}

# The words that may stand where the cursor is, one a line.
_virtceph_candidates() {
    local current=$$1 namespace=$$2 verb=$$3 key value
    if [[ $$current == -* ]]; then
        printf '%s\n' $options
    elif [[ -z $$namespace ]]; then
        printf '%s\n' $namespaces
    elif [[ -z $$verb ]]; then
        _virtceph_verbs "$$namespace"
    elif [[ $$current == *=* ]]; then
        key=$${current%%=*}
        _virtceph_values "$$namespace.$$verb.$$key" | while IFS= read -r value; do
            printf '%s=%q\n' "$$key" "$$value"
        done
    else
        _virtceph_params "$$namespace.$$verb"
    fi
}

_virtceph() {
    local line=$${COMP_LINE:0:COMP_POINT} current= namespace= verb= previous= word breaks= cut=
    local -a words _virtceph_socket=()
    read -ra words <<<"$$line"
    if [[ $$line != *[[:space:]] ]]; then
        current=$${words[-1]}
        unset 'words[-1]'
    fi
    for word in "$${words[@]:1}"; do
        case $$previous in
            --socket) _virtceph_socket=(--socket "$$word"); previous=; continue ;;
            --timeout | -f) previous=; continue ;;
        esac
        previous=$$word
        if [[ $$word == -* ]]; then
            continue
        elif [[ -z $$namespace ]]; then
            namespace=$$word
        elif [[ -z $$verb ]]; then
            verb=$$word
        fi
    done
    COMPREPLY=()
    case $$previous in
        --socket | -f) compopt -o default 2>/dev/null; return ;;
        --timeout) return ;;
    esac
    # Readline replaces only what follows the last = or : where these break words.
    [[ $$COMP_WORDBREAKS == *=* ]] && breaks+="="
    [[ $$COMP_WORDBREAKS == *:* ]] && breaks+=":"
    [[ -n $$breaks && $$current == *[$$breaks]* ]] && cut=$${current%"$${current##*[$$breaks]}"}
    while IFS= read -r word; do
        [[ $$word == "$$current"* ]] && COMPREPLY+=("$${word#"$$cut"}")
    done < <(_virtceph_candidates "$$current" "$$namespace" "$$verb")
    [[ $${#COMPREPLY[@]} -eq 1 && $${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}

complete -F _virtceph virtceph
""")

ZSH = Template(r"""#compdef virtceph
# zsh completion for virtceph. Generated from the contract; do not edit.

_virtceph_verbs() {
    case $$1 in
$verbs
    esac
}

_virtceph_params() {
    case $$1 in
$params
    esac
}

_virtceph_ask() {
    command virtceph --timeout 2 $$_virtceph_socket "$$@" 2>/dev/null
}

_virtceph_values() {
    case $$1 in
$values
    esac
}

_virtceph() {
    local namespace= verb= previous= word key
    local -a _virtceph_socket found
    for word in $${words[2,CURRENT-1]}; do
        case $$previous in
            --socket) _virtceph_socket=(--socket $$word); previous=; continue ;;
            --timeout|-f) previous=; continue ;;
        esac
        previous=$$word
        if [[ $$word == -* ]]; then
            continue
        elif [[ -z $$namespace ]]; then
            namespace=$$word
        elif [[ -z $$verb ]]; then
            verb=$$word
        fi
    done
    case $$previous in
        --socket|-f) _files; return ;;
        --timeout) return ;;
    esac
    if [[ $$PREFIX == -* ]]; then
        compadd -- $options
    elif [[ -z $$namespace ]]; then
        compadd -- $namespaces
    elif [[ -z $$verb ]]; then
        found=($${(f)"$$(_virtceph_verbs $$namespace)"})
        compadd -a found
    elif [[ $$PREFIX == *=* ]]; then
        key=$${PREFIX%%=*}
        compset -P '*='
        found=($${(f)"$$(_virtceph_values $$namespace.$$verb.$$key)"})
        compadd -a found
    else
        found=($${(f)"$$(_virtceph_params $$namespace.$$verb)"})
        compadd -S '' -a found
    fi
}

if [[ $$funcstack[1] == _virtceph ]]; then _virtceph "$$@"; else compdef _virtceph virtceph; fi
""")

FISH = Template(r"""# fish completion for virtceph. Generated from the contract; do not edit.

# The namespace, the verb and the parameters said so far, one a line.
function __virtceph_said
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $$skip -eq 1
            set skip 0
            continue
        end
        switch $$word
            case --socket --timeout -f
                set skip 1
            case '-*'
            case '*'
                echo $$word
        end
    end
end

# True where exactly these words were said, or these two and any parameters.
function __virtceph_after
    set -l said (__virtceph_said)
    if test (count $$argv) -lt 2
        test (count $$said) -eq (count $$argv); and test "$$said" = "$$argv"
    else
        test (count $$said) -ge 2; and test "$$said[1..2]" = "$$argv"
    end
end

# __virtceph_ask PARAMETER FIELD NAMESPACE VERB: `PARAMETER=value` for each of the daemon's answers.
function __virtceph_ask
    set -l line '^ *"'$$argv[2]'": "([^"\\\\]*)",?$$'
    command virtceph --timeout 2 $$argv[3..4] 2>/dev/null |
        string replace -rf $$line $$argv[1]'=$$1'
end

complete -c virtceph -f
complete -c virtceph -s h -l help -d 'Show help'
complete -c virtceph -l version -d 'Show the version'
complete -c virtceph -l socket -r -F -d 'The socket of the daemon'
complete -c virtceph -l timeout -x -d 'Seconds to wait'
complete -c virtceph -l human -d 'Tables instead of JSON'
complete -c virtceph -l wait -d 'Wait for the end of the job'
complete -c virtceph -s f -r -F -d 'Read the parameters from a file'
$rules
""")
